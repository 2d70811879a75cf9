#pragma once

#include "../device/packet.cuh"
#include "mask_tangents.h"

namespace polarity {

constexpr int kMaskBlock = 256;
constexpr int64_t kMaskProbes = 8;  // that one thread serves: bits are read once for all of them

// A warp for 32 numbers of a sample; their bits are a ballot, of which four lanes write a byte.
template <typename T>
POLARITY_GLOBAL void rectify_kernel(const T* x, T slope, T* y, uint8_t* bits, int64_t batch,
                                    int64_t size) {
  const int64_t words = (size + 31) / 32, bytes = (size + 7) / 8;
  const int lane = device::lane();
  for (int64_t word = device::thread_index() / 32; word < batch * words;
       word += device::grid_threads() / 32) {
    const int64_t b = word / words;
    const int64_t first = (word - b * words) * 32;
    const int64_t i = first + lane;
    const T value = i < size ? x[b * size + i] : T(0);
    if (i < size) y[b * size + i] = rectified(value, slope);
    const uint32_t ballot = device::ballot(value > T(0));
    const int64_t byte = first / 8 + lane;
    if (lane < 4 && byte < bytes) bits[b * bytes + byte] = static_cast<uint8_t>(ballot >> 8 * lane);
  }
}

// One thread for each packet of a sample and group of probes.
template <typename T, typename Packet>
POLARITY_GLOBAL void mask_tangents_kernel(const T* t, const uint8_t* bits, T low, T high, T* out,
                                          MaskLayout layout) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  const int64_t packets = layout.size / kWidth;
  const int64_t groups = (layout.probes + kMaskProbes - 1) / kMaskProbes;
  const int64_t total = groups * layout.batch * packets;
  for (int64_t index = device::thread_index(); index < total; index += device::grid_threads()) {
    const int64_t sample = index / packets;
    const int64_t i = (index - sample * packets) * kWidth;
    const int64_t group = sample / layout.batch;
    const int64_t b = sample - group * layout.batch;
    const unsigned mask = bits[b * layout.bytes() + i / 8] >> i % 8;
    const int64_t first = group * kMaskProbes;
    const int64_t last = first + kMaskProbes < layout.probes ? first + kMaskProbes : layout.probes;
    const T* source = t + b * layout.t_batch + i;
    T* target = out + b * layout.out_batch + i;
    for (int64_t l = first; l < last; ++l) {
      Packet packet = device::load_packet<Packet>(source + l * layout.t_probe);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) device::element(packet, k) *= mask >> k & 1 ? high : low;
      device::store_packet_whole(target + l * layout.out_probe, packet);
    }
  }
}

}  // namespace polarity
