#pragma once

#include "../device/async_copy.cuh"
#include "../device/mma.cuh"
#include "linear_tangents.h"

namespace polarity {

constexpr int kLinearBlock = 256;

// Where row m = l batch + b of t begins.
template <typename T>
POLARITY_DEVICE const T* linear_row(const T* t, const LinearShape& shape, int64_t m) {
  const int64_t l = m / shape.batch;
  return t + l * shape.t_probe + (m - l * shape.batch) * shape.t_batch;
}

// The tile of the result that a block forms.
struct LinearTile {
  int64_t row, column;  // of its corner
};

POLARITY_DEVICE LinearTile linear_tile(const LinearShape& shape, int rows, int columns) {
  const int64_t across = (shape.out + columns - 1) / columns;
  return {blockIdx.x / across * rows, blockIdx.x % across * columns};
}

// Fused multiply-adds: 64 x 64 of the result in a block, 4 x 4 in a thread, 16 inputs at a time.
constexpr int kLinearEdge = 64;
constexpr int kLinearDepth = 16;
constexpr int kLinearPitch = kLinearEdge + 4;  // rows of a staged tile begin in different banks

template <typename T>
POLARITY_GLOBAL void linear_full_kernel(const T* t, const T* weight, const T* d, T* out,
                                        LinearShape shape) {
  SHARED_ARRAY(T, left, kLinearDepth * kLinearPitch);
  SHARED_ARRAY(T, right, kLinearDepth * kLinearPitch);
  const LinearTile tile = linear_tile(shape, kLinearEdge, kLinearEdge);
  const int64_t rows = shape.probes * shape.batch;
  const int thread = static_cast<int>(threadIdx.x);
  const int y = thread / 16 * 4, x = thread % 16;  // rows y .. y + 3, columns x, x + 16, ...
  T sum[4][4] = {};
  for (int64_t start = 0; start < shape.in; start += kLinearDepth) {
#pragma unroll
    for (int item = thread; item < kLinearEdge * kLinearDepth; item += kLinearBlock) {
      const int k = item % kLinearDepth, i = item / kLinearDepth;
      const int64_t m = tile.row + i, n = tile.column + i;
      const bool inside = start + k < shape.in;
      left[k * kLinearPitch + i] = inside && m < rows ? linear_row(t, shape, m)[start + k] : T(0);
      right[k * kLinearPitch + i] =
          inside && n < shape.out ? weight[n * shape.in + start + k] : T(0);
    }
    device::sync_block();
#pragma unroll
    for (int k = 0; k < kLinearDepth; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sum[i][j] += left[k * kLinearPitch + y + i] * right[k * kLinearPitch + x + 16 * j];
        }
      }
    }
    device::sync_block();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t m = tile.row + y + i;
    if (m >= rows) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t n = tile.column + x + 16 * j;
      if (n < shape.out) {
        out[m * shape.out + n] = sum[i][j] * d[m % shape.batch * shape.out + n];
      }
    }
  }
}

// Tensor cores: 128 x 64 of the result in a block, 32 x 32 in a warp, 32 inputs at a time, the next
// ones on their way while these are multiplied. A row of a staged tile is four numbers longer than
// what is staged: the lanes of a fragment then read from 32 different banks.
constexpr int kTensorRows = 128;
constexpr int kTensorColumns = 64;
constexpr int kTensorDepth = 32;
constexpr int kTensorPitch = kTensorDepth + 4;
constexpr int kTensorStage = (kTensorRows + kTensorColumns) * kTensorPitch;  // of both tiles
constexpr int kTensorShared = 2 * kTensorStage * static_cast<int>(sizeof(float));

// Starts the copies of inputs start .. start + 32 of both tiles. Rows that do not exist are copies
// of the last one, and never stored; inputs that do not exist are zero.
POLARITY_DEVICE void linear_stage(const float* t, const float* weight, const LinearShape& shape,
                                  const LinearTile& tile, int64_t start, float* stage) {
  constexpr int kPackets = kTensorDepth / 4;
  const int64_t rows = shape.probes * shape.batch;
  for (int item = static_cast<int>(threadIdx.x); item < (kTensorRows + kTensorColumns) * kPackets;
       item += kLinearBlock) {
    const int row = item / kPackets;
    const int64_t k = start + item % kPackets * 4;
    float* target = stage + row * kTensorPitch + item % kPackets * 4;
    if (k >= shape.in) {
      for (int i = 0; i < 4; ++i) target[i] = 0.0f;
    } else if (row < kTensorRows) {
      const int64_t m = tile.row + row;
      device::copy_async(target, linear_row(t, shape, m < rows ? m : rows - 1) + k);
    } else {
      const int64_t n = tile.column + row - kTensorRows;
      device::copy_async(target, weight + (n < shape.out ? n : shape.out - 1) * shape.in + k);
    }
  }
  device::copy_async_commit();
}

template <bool kSplit>
POLARITY_GLOBAL void linear_tensor_kernel(const float* t, const float* weight, const float* d,
                                          float* out, LinearShape shape) {
  DYN_SHARED(float, stages);
  const LinearTile tile = linear_tile(shape, kTensorRows, kTensorColumns);
  const int64_t rows = shape.probes * shape.batch;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int row = warp / 2 * 32, column = warp % 2 * 32;  // of the warp, in the tile
  const int g = device::lane() / 4, q = device::lane() % 4;
  float sum[2][4][4] = {};

  linear_stage(t, weight, shape, tile, 0, stages);
  for (int64_t start = 0; start < shape.in; start += kTensorDepth) {
    const int64_t step = start / kTensorDepth;
    const float* left = stages + step % 2 * kTensorStage + row * kTensorPitch;
    const float* right = stages + step % 2 * kTensorStage + (kTensorRows + column) * kTensorPitch;
    linear_stage(t, weight, shape, tile, start + kTensorDepth,
                 stages + (step + 1) % 2 * kTensorStage);
    device::copy_async_wait<1>();
    device::sync_block();
#pragma unroll
    for (int k = 0; k < kTensorDepth; k += 8) {
      float a[2][4], b[4][2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          a[i][e] = left[(16 * i + g + e % 2 * 8) * kTensorPitch + k + q + e / 2 * 4];
          if constexpr (!kSplit) a[i][e] = device::to_tf32(a[i][e]);
        }
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          b[j][e] = right[(8 * j + g) * kTensorPitch + k + q + e * 4];
          if constexpr (!kSplit) b[j][e] = device::to_tf32(b[j][e]);
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if constexpr (kSplit) {
            device::mma_m16n8k8_split(sum[i][j], a[i], b[j]);
          } else {
            device::mma_m16n8k8(sum[i][j], a[i], b[j]);
          }
        }
      }
    }
    device::sync_block();  // the copies of the next turn go where this one has read
  }
  device::copy_async_wait<0>();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t m = tile.row + row + 16 * i + g + e / 2 * 8;
        const int64_t n = tile.column + column + 8 * j + 2 * q + e % 2;
        if (m < rows && n < shape.out) {
          out[m * shape.out + n] = sum[i][j][e] * d[m % shape.batch * shape.out + n];
        }
      }
    }
  }
}

}  // namespace polarity
