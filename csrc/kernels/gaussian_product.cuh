#pragma once

#include "../device/normal.h"
#include "../device/portability.cuh"
#include "gaussian_product.h"

namespace polarity {

constexpr int kProductRows = 32;     // of Omega that a block makes and multiplies
constexpr int kProductColumns = 64;  // of one sample of Y
constexpr int kProductDepth = 32;    // rows of Y at a time
constexpr int kProductBlock = 256;   // threads: 16 x 16, each two rows by four columns

// omega[r][d] = Omega[first_row + r, first + d], one thread for each counter of four numbers.
POLARITY_DEVICE void make_omega(const GaussianRows& rows, int64_t columns, int64_t first_row,
                                int64_t first, float* omega) {
  constexpr int kCounters = kProductDepth / 4 + 1;  // a row need not begin with a counter
  for (int item = static_cast<int>(threadIdx.x); item < kProductRows * kCounters;
       item += kProductBlock) {
    const int r = item / kCounters;
    const uint64_t place = rows.offset + static_cast<uint64_t>((first_row + r) * columns + first);
    const uint64_t counter = place / 4 + static_cast<uint64_t>(item % kCounters);
    const Philox4 random = philox(rows.seed, StreamTag::gaussian, counter);
    const Normal2 a = box_muller(random.word[0], random.word[1]);
    const Normal2 b = box_muller(random.word[2], random.word[3]);
    const float value[4] = {a.first, a.second, b.first, b.second};
    const int base = static_cast<int>(static_cast<int64_t>(counter * 4 - place));  // may be < 0
#pragma unroll
    for (int lane = 0; lane < 4; ++lane) {
      const int d = base + lane;
      if (d >= 0 && d < kProductDepth) omega[r * (kProductDepth + 1) + d] = value[lane];
    }
  }
}

// panel[d][c] = Y[first + d, first_column + c] of one sample, zero beyond its edges. Adjacent
// threads read what is adjacent in memory.
template <typename T>
POLARITY_DEVICE void load_panel(const T* y, const GramShape& shape, int64_t first,
                                int64_t first_column, double* panel) {
  const bool along_rows = shape.stride_row < shape.stride_col;
  for (int item = static_cast<int>(threadIdx.x); item < kProductDepth * kProductColumns;
       item += kProductBlock) {
    const int d = along_rows ? item % kProductDepth : item / kProductColumns;
    const int c = along_rows ? item / kProductDepth : item % kProductColumns;
    const bool inside = first + d < shape.rows && first_column + c < shape.cols;
    panel[d * (kProductColumns + 1) + c] =
        inside ? static_cast<double>(
                     y[(first + d) * shape.stride_row + (first_column + c) * shape.stride_col])
               : 0.0;
  }
}

// One block for 32 rows of Omega and 64 columns of one sample; the sum over D is in order.
template <typename T>
POLARITY_GLOBAL void gaussian_product_kernel(const T* y, GramShape shape, GaussianRows rows,
                                             double* out) {
  SHARED_ARRAY(float, omega, kProductRows*(kProductDepth + 1));
  SHARED_ARRAY(double, panel, kProductDepth*(kProductColumns + 1));
  const int64_t row_tiles = (rows.count + kProductRows - 1) / kProductRows;
  const int64_t column_tiles = (shape.cols + kProductColumns - 1) / kProductColumns;
  const int64_t block = blockIdx.x;
  const int64_t first_row = block % row_tiles * kProductRows;
  const int64_t first_column = block / row_tiles % column_tiles * kProductColumns;
  const int64_t b = block / (row_tiles * column_tiles);
  const int row = static_cast<int>(threadIdx.x) / 16 * 2,
            column = static_cast<int>(threadIdx.x) % 16;

  double sum[2][4] = {};
  for (int64_t first = 0; first < shape.rows; first += kProductDepth) {
    make_omega(rows, shape.rows, first_row, first, omega);
    load_panel(y + b * shape.stride_batch, shape, first, first_column, panel);
    device::sync_block();
    const int64_t left = shape.rows - first;
    const int depth = left < kProductDepth ? static_cast<int>(left) : kProductDepth;
    for (int d = 0; d < depth; ++d) {
      double factor[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        factor[r] = static_cast<double>(omega[(row + r) * (kProductDepth + 1) + d]);
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const double number = panel[d * (kProductColumns + 1) + column + 16 * c];
#pragma unroll
        for (int r = 0; r < 2; ++r) sum[r][c] = ::fma(factor[r], number, sum[r][c]);
      }
    }
    device::sync_block();  // the next panel goes where this one was read
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int64_t i = first_row + row + r, j = first_column + column + 16 * c;
      if (i < rows.count && j < shape.cols) out[(b * rows.count + i) * shape.cols + j] = sum[r][c];
    }
  }
}

}  // namespace polarity
