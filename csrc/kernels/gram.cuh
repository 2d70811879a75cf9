#pragma once

#include "../device/mma.cuh"
#include "../device/portability.cuh"
#include "gram.h"

namespace polarity {

constexpr int kGramDepth = 16;  // rows staged in shared memory
constexpr int kGramBlock = 64;  // two warps, each with 16 rows of the tile
constexpr int kGramDown = 2;    // 8 x 8 products that a warp has below each other
constexpr int kGramAcross = 4;  // and beside each other
// Doubles from one staged row to the next: the four rows that a warp reads at once begin in
// different banks.
constexpr int kGramPitch = static_cast<int>(kGramTile) + 4;

// pair -> (row, column) of an upper-triangular enumeration: column j holds pairs j(j+1)/2 ...
POLARITY_DEVICE void gram_tile_of_pair(int64_t pair, int64_t& row, int64_t& column) {
  column = 0;
  while ((column + 1) * (column + 2) / 2 <= pair) ++column;
  row = pair - column * (column + 1) / 2;
}

// One block per (batch element, split, tile pair): a 32 x 32 piece of Y^T Y over its share of the
// rows, staged 16 rows at a time as doubles and multiplied by the tensor cores.
template <typename T>
POLARITY_GLOBAL void gram_partial_kernel(const T* y, GramShape shape, int64_t splits,
                                         double* partial) {
  SHARED_ARRAY(double, left, kGramDepth* kGramPitch);
  SHARED_ARRAY(double, right, kGramDepth* kGramPitch);

  const int64_t pairs = gram_tile_pairs(shape.cols);
  const int64_t pair = blockIdx.x % pairs;
  const int64_t split = blockIdx.x / pairs % splits;
  const int64_t b = blockIdx.x / pairs / splits;
  int64_t tile_row, tile_column;
  gram_tile_of_pair(pair, tile_row, tile_column);

  const int64_t rows_per_split = (shape.rows + splits - 1) / splits;
  const int64_t first = split * rows_per_split;
  const int64_t last = first + rows_per_split < shape.rows ? first + rows_per_split : shape.rows;
  const T* sample = y + b * shape.stride_batch;

  const int thread = static_cast<int>(threadIdx.x);
  // The places of a lane in the fragments of mma_m8n8k4.
  const int g = device::lane() / 4, t = device::lane() % 4;
  const int warp_row = thread / 32 * kGramDown * 8;
  double sum[kGramDown][kGramAcross][2] = {};
  double chunk[kGramDown][kGramAcross][2] = {};
  // Neighbouring threads must read neighbouring addresses, whichever dimension that is.
  const bool rows_adjacent = shape.stride_row < shape.stride_col;

  for (int64_t start = first; start < last; start += kGramDepth) {
    for (int item = thread; item < kGramDepth * static_cast<int>(kGramTile); item += kGramBlock) {
      const int depth = rows_adjacent ? item % kGramDepth : item / static_cast<int>(kGramTile);
      const int lane = rows_adjacent ? item / kGramDepth : item % static_cast<int>(kGramTile);
      const int64_t row = start + depth;
      const int64_t i = tile_row * kGramTile + lane;
      const int64_t j = tile_column * kGramTile + lane;
      const T* address = sample + row * shape.stride_row;
      const int slot = depth * kGramPitch + lane;
      left[slot] =
          row < last && i < shape.cols ? static_cast<double>(address[i * shape.stride_col]) : 0.0;
      right[slot] =
          row < last && j < shape.cols ? static_cast<double>(address[j * shape.stride_col]) : 0.0;
    }
    device::sync_block();
#pragma unroll
    for (int depth = 0; depth < kGramDepth; depth += 4) {
      double a[kGramDown], c[kGramAcross];
#pragma unroll
      for (int i = 0; i < kGramDown; ++i) {
        a[i] = left[(depth + t) * kGramPitch + warp_row + 8 * i + g];
      }
#pragma unroll
      for (int j = 0; j < kGramAcross; ++j) c[j] = right[(depth + t) * kGramPitch + 8 * j + g];
#pragma unroll
      for (int i = 0; i < kGramDown; ++i) {
#pragma unroll
        for (int j = 0; j < kGramAcross; ++j) device::mma_m8n8k4(chunk[i][j], a[i], c[j]);
      }
    }
    const int64_t done = start + kGramDepth - first;
    if (done % kGramChunk == 0 || first + done >= last) {
#pragma unroll
      for (int i = 0; i < kGramDown; ++i) {
#pragma unroll
        for (int j = 0; j < kGramAcross; ++j) {
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            sum[i][j][k] += chunk[i][j][k];
            chunk[i][j][k] = 0.0;
          }
        }
      }
    }
    device::sync_block();
  }

  double* tile = partial + static_cast<int64_t>(blockIdx.x) * kGramTile * kGramTile;
#pragma unroll
  for (int i = 0; i < kGramDown; ++i) {
#pragma unroll
    for (int j = 0; j < kGramAcross; ++j) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        tile[(warp_row + 8 * i + g) * kGramTile + 8 * j + 2 * t + k] = sum[i][j][k];
      }
    }
  }
}

// Sums the splits in order and mirrors the upper triangle.
POLARITY_GLOBAL void gram_reduce_kernel(const double* partial, GramShape shape, int64_t splits,
                                        double* out) {
  const int64_t pairs = gram_tile_pairs(shape.cols);
  const int64_t square = shape.cols * shape.cols;
  const int64_t total = shape.batch * square;
  for (int64_t index = device::thread_index(); index < total; index += device::grid_threads()) {
    const int64_t b = index / square;
    const int64_t row = (index - b * square) / shape.cols;
    const int64_t column = index - b * square - row * shape.cols;
    const int64_t i = row < column ? row : column;
    const int64_t j = row < column ? column : row;
    const int64_t tile_row = i / kGramTile;
    const int64_t tile_column = j / kGramTile;
    const int64_t pair = tile_column * (tile_column + 1) / 2 + tile_row;
    const int64_t cell = (i % kGramTile) * kGramTile + j % kGramTile;
    double sum = 0.0;
    for (int64_t split = 0; split < splits; ++split) {
      sum += partial[((b * splits + split) * pairs + pair) * kGramTile * kGramTile + cell];
    }
    out[index] = sum;
  }
}

}  // namespace polarity
