// values[b] = the singular values of A[b], descending, by one-sided Jacobi rotations of its columns
// in double. Where A = B D with D diagonal, the relative error of every value is a small multiple
// of 2^-53 n^(1/2) / sigma_min(B) (J. Demmel, K. Veselic, Jacobi's method is more accurate than QR,
// SIAM J. Matrix Anal. Appl. 13, 1992), down to 2^-450 of the largest element; nothing is relative
// to the largest value. info[b] = 0, or how many pairs of columns the last sweep allowed still had
// to rotate, or -1 where A[b] holds NaN or an infinity; then its values are NaN. A matrix changes
// no other.
#pragma once

#include <cmath>
#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

constexpr int64_t kLargestJacobi = 128;  // columns

struct TallBatch {
  int64_t batch, rows, columns;                  // [batch, rows, columns], rows >= columns
  int64_t stride_batch, stride_row, stride_col;  // in elements, any layout
};

// Columns are orthogonal where |x . y| is at most this times |x| |y|: the rounding of that sum.
inline double orthogonal_below(int64_t rows) {
  return std::sqrt(static_cast<double>(rows)) * 0x1p-52;
}

// Doubles from one column to the next in the CUDA kernel: half the banks of shared memory more than
// all of them some times over, so that neighbouring columns do not conflict.
POLARITY_HOST_DEVICE int64_t jacobi_pitch(int64_t rows) { return (rows + 7) / 16 * 16 + 8; }

// Doubles of a matrix and of its columns' squares; up to kJacobiShared they lie in shared memory.
POLARITY_HOST_DEVICE int64_t jacobi_doubles(const TallBatch& shape) {
  return (jacobi_pitch(shape.rows) + 1) * shape.columns;
}
constexpr int64_t kJacobiShared = 12 << 10;

// Doubles that the CUDA kernel works in.
inline int64_t jacobi_workspace(const TallBatch& shape) {
  return jacobi_doubles(shape) <= kJacobiShared
             ? 0
             : shape.batch * jacobi_pitch(shape.rows) * shape.columns;
}

namespace cpu {
// values: [batch, columns], info: [batch], both contiguous.
template <typename T>
void jacobi_singular_values(const T* a, const TallBatch& shape, int64_t max_sweeps, T* values,
                            int64_t* info);
}  // namespace cpu
namespace cuda {
// workspace: jacobi_workspace(shape) doubles.
template <typename T>
void jacobi_singular_values(const T* a, const TallBatch& shape, int64_t max_sweeps,
                            double* workspace, T* values, int64_t* info, void* stream);
}  // namespace cuda

}  // namespace polarity
