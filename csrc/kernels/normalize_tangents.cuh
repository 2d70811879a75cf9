#pragma once

#include "../device/packet.cuh"
#include "../device/reduce.cuh"
#include "normalize_tangents.h"

namespace polarity {

constexpr int kNormalizeBlock = 256;

// Groups in one run of memory (rows = 1): kThreads of a block, a warp or all of them, share a
// group. The probes of a group are neighbours in the grid, so that xhat comes from a cache.
template <typename T, typename Packet, int kThreads>
POLARITY_GLOBAL void normalize_runs_kernel(const T* t, const T* xhat, const T* r, bool center,
                                           T* out, GroupLayout layout) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  constexpr int64_t kGroups = kNormalizeBlock / kThreads;
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  const int64_t groups = layout.outer * layout.inner;
  const int64_t count = layout.run;
  for (int64_t item = blockIdx.x * kGroups + threadIdx.x / kThreads; item < groups * layout.probes;
       item += gridDim.x * kGroups) {
    const int64_t group = item / layout.probes;
    const int64_t probe = item - group * layout.probes;
    const T* from = t + probe * layout.t_probe + group * count;
    const T* point = xhat + group * count;
    T* to = out + (probe * groups + group) * count;
    T sum = 0, product = 0;
    for (int64_t i = int64_t{thread} * kWidth; i < count; i += int64_t{kThreads} * kWidth) {
      Packet values = device::load_packet<Packet>(from + i);
      Packet points = device::load_packet<Packet>(point + i);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        sum += device::element(values, k);
        product += device::element(values, k) * device::element(points, k);
      }
    }
    if constexpr (kThreads == 32) {
      sum = device::warp_sum(sum);
      product = device::warp_sum(product);
    } else {
      sum = device::block_sum<kThreads>(sum);
      product = device::block_sum<kThreads>(product);
    }
    const T mean = center ? sum / static_cast<T>(count) : T(0);
    const T slope = product / static_cast<T>(count);
    const T factor = r[group];
    for (int64_t i = int64_t{thread} * kWidth; i < count; i += int64_t{kThreads} * kWidth) {
      Packet values = device::load_packet<Packet>(from + i);  // again, from the cache
      Packet points = device::load_packet<Packet>(point + i);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        T& value = device::element(values, k);
        value = factor * ((value - mean) - device::element(points, k) * slope);
      }
      device::store_packet(to + i, values);
    }
  }
}

// Strided groups: a block has 32 adjacent columns, one for each lane of a warp when sums are put
// together. The columns are those of as many whole groups as fit (`tile`), or of one group that is
// wider.
constexpr int kNormalizeColumns = 32;

// (__restrict__: t and xhat of the next rows may be read before those of this one are written.)
template <int kThreads, typename T, typename Packet>
POLARITY_GLOBAL void normalize_columns_kernel(const T* __restrict__ t, const T* __restrict__ xhat,
                                              const T* __restrict__ r, bool center,
                                              T* __restrict__ out, GroupLayout layout,
                                              int64_t tile) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  constexpr int kLanes = kNormalizeColumns / kWidth;  // of a row
  constexpr int64_t kRows = kThreads / kLanes;        // at a time
  constexpr int kWarps = kThreads / 32;
  constexpr int64_t kChunk = 64 * kRows;  // summed apart, so that errors do not grow with the rows
  SHARED_ARRAY(T, sums, kWarps * kNormalizeColumns);
  SHARED_ARRAY(T, products, kWarps * kNormalizeColumns);
  SHARED_ARRAY(T, means, kNormalizeColumns);  // of each column's group
  SHARED_ARRAY(T, slopes, kNormalizeColumns);
  SHARED_ARRAY(T, factors, kNormalizeColumns);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int first_column = thread % kLanes * kWidth;
  const int64_t first_row = thread / kLanes;
  const int64_t tiles = (layout.inner + tile - 1) / tile;
  const int64_t stride = layout.inner * layout.run;
  const int64_t items = layout.outer * tiles * layout.probes;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t probe = item % layout.probes;
    const int64_t outer = item / layout.probes / tiles;
    const int64_t group = item / layout.probes % tiles * tile;
    const int64_t groups = tile < layout.inner - group ? tile : layout.inner - group;
    const int64_t width = groups * layout.run;
    const int64_t start = outer * layout.sample() + group * layout.run;
    const T* from = t + probe * layout.t_probe + start;
    const T* point = xhat + start;
    T* to = out + probe * layout.outer * layout.sample() + start;

    T sum[kWidth] = {}, product[kWidth] = {};
    for (int64_t column = first_column; column < width; column += kNormalizeColumns) {
      for (int64_t chunk = first_row; chunk < layout.rows; chunk += kChunk) {
        const int64_t last = chunk + kChunk < layout.rows ? chunk + kChunk : layout.rows;
        T part_sum[kWidth] = {}, part_product[kWidth] = {};
#pragma unroll 4
        for (int64_t row = chunk; row < last; row += kRows) {
          Packet values = device::load_packet<Packet>(from + row * stride + column);
          Packet points = device::load_packet<Packet>(point + row * stride + column);
#pragma unroll
          for (int k = 0; k < kWidth; ++k) {
            part_sum[k] += device::element(values, k);
            part_product[k] += device::element(values, k) * device::element(points, k);
          }
        }
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          sum[k] += part_sum[k];
          product[k] += part_product[k];
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
#pragma unroll
      for (int other = kLanes; other < 32; other *= 2) {  // the rows of a warp
        sum[k] += device::shuffle_xor(sum[k], other);
        product[k] += device::shuffle_xor(product[k], other);
      }
      if (lane < kLanes) {
        sums[thread / 32 * kNormalizeColumns + first_column + k] = sum[k];
        products[thread / 32 * kNormalizeColumns + first_column + k] = product[k];
      }
    }
    device::sync_block();

    if (thread < 32) {  // a lane has a column of all warps, then those of its group
      T column_sum = 0, column_product = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) {
        column_sum += sums[warp * kNormalizeColumns + lane];
        column_product += products[warp * kNormalizeColumns + lane];
      }
      const int span =
          layout.run < kNormalizeColumns ? static_cast<int>(layout.run) : kNormalizeColumns;
      const int mine = lane / span;
      T group_sum = 0, group_product = 0;
      for (int i = 0; i < span; ++i) {
        group_sum += device::shuffle(column_sum, (mine * span + i) % 32);
        group_product += device::shuffle(column_product, (mine * span + i) % 32);
      }
      const T count = static_cast<T>(layout.rows * layout.run);
      means[lane] = center ? group_sum / count : T(0);
      slopes[lane] = group_product / count;
      factors[lane] = mine < groups ? r[outer * layout.inner + group + mine] : T(0);
    }
    device::sync_block();

    T mean[kWidth], slope[kWidth], factor[kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      mean[k] = means[first_column + k];
      slope[k] = slopes[first_column + k];
      factor[k] = factors[first_column + k];
    }
    for (int64_t column = first_column; column < width; column += kNormalizeColumns) {
#pragma unroll 4
      for (int64_t row = first_row; row < layout.rows; row += kRows) {
        const int64_t i = row * stride + column;
        Packet values = device::load_packet<Packet>(from + i);  // again, from a cache
        Packet points = device::load_packet<Packet>(point + i);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          T& value = device::element(values, k);
          value = factor[k] * ((value - mean[k]) - device::element(points, k) * slope[k]);
        }
        device::store_packet(to + i, values);
      }
    }
  }
}

}  // namespace polarity
