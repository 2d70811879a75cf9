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

// Strided groups: a block has kLanes adjacent columns of kRows rows at a time. The columns are
// those of as many whole groups as fit (`tile`), or of one group that is wider.
constexpr int kNormalizeLanes = 32;
constexpr int kNormalizeRows = kNormalizeBlock / kNormalizeLanes;

template <typename T>
POLARITY_GLOBAL void normalize_columns_kernel(const T* t, const T* xhat, const T* r, bool center,
                                              T* out, GroupLayout layout, int64_t tile) {
  SHARED_ARRAY(T, sums, kNormalizeBlock);
  SHARED_ARRAY(T, products, kNormalizeBlock);
  constexpr int64_t kChunk = 64;  // summed apart, so that errors do not grow with the rows
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kNormalizeLanes;
  const int64_t first_row = thread / kNormalizeLanes;
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

    T sum = 0, product = 0;
    for (int64_t column = lane; column < width; column += kNormalizeLanes) {
      for (int64_t chunk = first_row; chunk < layout.rows; chunk += kChunk * kNormalizeRows) {
        const int64_t end = chunk + kChunk * kNormalizeRows;
        const int64_t last = end < layout.rows ? end : layout.rows;
        T part_sum = 0, part_product = 0;
        for (int64_t row = chunk; row < last; row += kNormalizeRows) {
          const T value = from[row * stride + column];
          part_sum += value;
          part_product += value * point[row * stride + column];
        }
        sum += part_sum;
        product += part_product;
      }
    }
    sums[thread] = sum;
    products[thread] = product;
    device::sync_block();

    // The lanes of this thread's group, all rows of each.
    const int span = layout.run < kNormalizeLanes ? static_cast<int>(layout.run) : kNormalizeLanes;
    const int mine = lane / span;
    sum = 0, product = 0;
    if (mine < groups) {
      for (int other = mine * span; other < (mine + 1) * span; ++other) {
        for (int row = 0; row < kNormalizeRows; ++row) {
          sum += sums[row * kNormalizeLanes + other];
          product += products[row * kNormalizeLanes + other];
        }
      }
    }
    device::sync_block();  // the next item writes where this one has read

    const T count = static_cast<T>(layout.rows * layout.run);
    const T mean = center ? sum / count : T(0);
    const T slope = product / count;
    const T factor = mine < groups ? r[outer * layout.inner + group + mine] : T(0);
    for (int64_t column = lane; column < width; column += kNormalizeLanes) {
      for (int64_t row = first_row; row < layout.rows; row += kNormalizeRows) {
        const int64_t i = row * stride + column;
        to[i] = factor * ((from[i] - mean) - point[i] * slope);
      }
    }
  }
}

}  // namespace polarity
