#pragma once

#include "../device/portability.cuh"
#include "solve_triangular.h"

namespace polarity {

constexpr int kTriangularBlock = 256;
constexpr int kTriangularWarps = kTriangularBlock / 32;
constexpr int kTriangularRows = 32;  // of Y in a block: one for each lane
constexpr int kTriangularOwn = 4;    // columns of a warp in a panel
constexpr int kTriangularPanel = kTriangularOwn * kTriangularWarps;

// One block for each tile of 32 rows, which lies in shared memory, a column after the other; a lane
// has one row. Panel after panel: all that solved columns take off the panel's, four columns to a
// warp, then the triangle on the diagonal, column by column.
template <typename T>
POLARITY_GLOBAL void solve_triangular_kernel(const T* y, const double* r, TriangularShape shape,
                                             int64_t tiles, double* out) {
  DYN_SHARED(double, x);
  const int64_t b = blockIdx.x / tiles, first = blockIdx.x % tiles * kTriangularRows;
  const int64_t rows = shape.rows - first < kTriangularRows ? shape.rows - first : kTriangularRows;
  const int64_t columns = shape.columns;
  const int64_t lane = device::lane(), warp = threadIdx.x / 32;
  const T* source = y + b * shape.stride_batch + first * shape.stride_row;
  const double* upper = r + b * shape.r_batch;

  // Neighbouring threads read neighbouring addresses, whichever dimension that is.
  const bool along_rows = shape.stride_col <= shape.stride_row;
  for (int64_t i = threadIdx.x; i < kTriangularRows * columns; i += kTriangularBlock) {
    const int64_t row = along_rows ? i / columns : i % kTriangularRows;
    const int64_t column = along_rows ? i % columns : i / kTriangularRows;
    const double value =
        row < rows ? static_cast<double>(source[row * shape.stride_row + column * shape.stride_col])
                   : 0.0;
    x[column * kTriangularRows + row] = value;
  }
  device::sync_block();

  for (int64_t panel = 0; panel < columns; panel += kTriangularPanel) {
    const int64_t mine = panel + warp * kTriangularOwn;  // the warp's first column
    double sum[kTriangularOwn];
    int64_t place[kTriangularOwn];  // in R; the last column again where there is none
#pragma unroll
    for (int k = 0; k < kTriangularOwn; ++k) {
      const bool there = mine + k < columns;
      const int64_t column = there ? mine + k : columns - 1;
      sum[k] = there ? x[column * kTriangularRows + lane] : 0.0;
      place[k] = column * shape.r_col;
    }
    for (int64_t i = 0; i < panel; ++i) {
      const double solved = x[i * kTriangularRows + lane];
#pragma unroll
      for (int k = 0; k < kTriangularOwn; ++k) sum[k] -= solved * upper[i * shape.r_row + place[k]];
    }
    const int64_t end = panel + kTriangularPanel < columns ? panel + kTriangularPanel : columns;
    for (int64_t column = panel; column < end; ++column) {
#pragma unroll
      for (int k = 0; k < kTriangularOwn; ++k) {
        if (mine + k == column) {
          x[column * kTriangularRows + lane] = sum[k] / upper[column * shape.r_row + place[k]];
        }
      }
      device::sync_block();
      const double solved = x[column * kTriangularRows + lane];
#pragma unroll
      for (int k = 0; k < kTriangularOwn; ++k) {
        if (mine + k > column) sum[k] -= solved * upper[column * shape.r_row + place[k]];
      }
    }
  }

  double* target = out + (b * shape.rows + first) * columns;
  for (int64_t i = threadIdx.x; i < rows * columns; i += kTriangularBlock) {
    target[i] = x[i % columns * kTriangularRows + i / columns];
  }
}

}  // namespace polarity
