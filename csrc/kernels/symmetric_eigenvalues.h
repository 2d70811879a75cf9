// out[b] = the `count` largest eigenvalues of the symmetric matrix A[b], descending. Everything is
// computed in double; of A only the lower triangle is read. Householder reflections make A
// tridiagonal; the error of every eigenvalue is a small multiple of n 2^-53 |A|. A matrix that
// holds NaN or an infinity gives NaN, and changes no other.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct SymmetricShape {
  int64_t batch, size, count;                    // A is [batch, size, size], 0 <= count <= size
  int64_t stride_batch, stride_row, stride_col;  // in elements, any layout
};

constexpr int64_t kLargestSymmetric = 128;  // a packed triangle must fit in shared memory

// A matrix is scaled to a largest element of about one. Sums of squares below this are taken for
// zero: what they stand for is far below rounding, but a reflection made of numbers that have lost
// their digits would be oblique.
constexpr double kTinySquare = 0x1p-900;

// Where row `row` of a packed lower triangle begins.
POLARITY_HOST_DEVICE int64_t triangle(int64_t row) { return row * (row + 1) / 2; }

namespace cpu {
template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricShape& shape, T* out);
}
namespace cuda {
template <typename T>
void symmetric_eigenvalues(const T* a, const SymmetricShape& shape, T* out, void* stream);
}

}  // namespace polarity
