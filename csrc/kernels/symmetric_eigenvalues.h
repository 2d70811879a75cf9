// out[b] = the `count` largest eigenvalues of the symmetric matrix A[b], descending. Everything is
// computed in double; of A only the lower triangle is read. Householder reflections make A
// tridiagonal; the error of every eigenvalue is a small multiple of n 2^-53 |A|. A matrix that
// holds NaN or an infinity gives NaN, and changes no other.
#pragma once

#include <cstdint>

#include "symmetric.h"

namespace polarity {

constexpr int64_t kLargestSymmetric = 128;  // a packed triangle must fit in shared memory

namespace cpu {
template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricBatch& shape, int64_t count, T* out);
}
namespace cuda {
template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricBatch& shape, int64_t count, T* out,
                           void* stream);
}

}  // namespace polarity
