// out[b] = the `count` largest eigenvalues of the symmetric matrix A[b], descending. Everything is
// computed in double; of A only the lower triangle is read. Householder reflections make A
// tridiagonal; the error of every eigenvalue is a small multiple of n 2^-53 |A|. A matrix that
// holds NaN or an infinity gives NaN, and changes no other.
#pragma once

#include <cstdint>

#include "symmetric.h"

namespace polarity {

constexpr int64_t kSharedSymmetric = 128;  // up to here the packed triangle fits in shared memory

// Doubles from one row to the next where the CUDA kernel works in global memory: at least one more
// than a row has, and whole lines of the cache.
POLARITY_HOST_DEVICE int64_t symmetric_pitch(int64_t size) { return (size + 16) / 16 * 16; }

// Doubles of one matrix there, and of the tridiagonal matrix that it becomes.
POLARITY_HOST_DEVICE int64_t symmetric_doubles(int64_t size) {
  return symmetric_pitch(size) * (symmetric_pitch(size) + 2);
}

// Doubles that the CUDA kernel works in.
inline int64_t symmetric_workspace(const SymmetricBatch& shape) {
  return shape.size <= kSharedSymmetric ? 0 : shape.batch * symmetric_doubles(shape.size);
}

namespace cpu {
constexpr int64_t kLargestSymmetric = 128;  // beyond, one matrix in each lane fits in no cache
template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricBatch& shape, int64_t count, T* out);
}  // namespace cpu
namespace cuda {
constexpr int64_t kLargestSymmetric = 1024;  // twelve vectors must fit in shared memory
// workspace: symmetric_workspace(shape) doubles.
template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricBatch& shape, int64_t count,
                           double* workspace, T* out, void* stream);
}  // namespace cuda

}  // namespace polarity
