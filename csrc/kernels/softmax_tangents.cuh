#pragma once

#include "../device/packet.cuh"
#include "../device/reduce.cuh"
#include "softmax_tangents.h"

namespace polarity {

constexpr int kSoftmaxBlock = 256;

// kThreads of a block, a warp or all of them, share a row. The probes of a row are neighbours in
// the grid, so that y comes from a cache.
template <typename T, typename Packet, int kThreads>
POLARITY_GLOBAL void softmax_tangents_kernel(const T* t, const T* y, T* out, RowLayout layout) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  constexpr int64_t kRows = kSoftmaxBlock / kThreads;
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  for (int64_t item = blockIdx.x * kRows + threadIdx.x / kThreads;
       item < layout.rows * layout.probes; item += gridDim.x * kRows) {
    const int64_t row = item / layout.probes;
    const int64_t probe = item - row * layout.probes;
    const T* from = t + probe * layout.t_probe + row * layout.size;
    const T* value = y + row * layout.size;
    T* to = out + (probe * layout.rows + row) * layout.size;
    T mean = 0;
    for (int64_t i = int64_t{thread} * kWidth; i < layout.size; i += int64_t{kThreads} * kWidth) {
      Packet tangents = device::load_packet<Packet>(from + i);
      Packet values = device::load_packet<Packet>(value + i);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        mean += device::element(tangents, k) * device::element(values, k);
      }
    }
    if constexpr (kThreads == 32) {
      mean = device::warp_sum(mean);
    } else {
      mean = device::block_sum<kThreads>(mean);
    }
    for (int64_t i = int64_t{thread} * kWidth; i < layout.size; i += int64_t{kThreads} * kWidth) {
      Packet tangents = device::load_packet<Packet>(from + i);  // again, from the cache
      Packet values = device::load_packet<Packet>(value + i);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        device::element(values, k) *= device::element(tangents, k) - mean;
      }
      device::store_packet(to + i, values);
    }
  }
}

}  // namespace polarity
