#pragma once

#include "../device/packet.cuh"
#include "scale_tangents.h"

namespace polarity {

// Probes one thread serves: d is read once for all of them, and enough threads remain.
constexpr int64_t kProbesPerThread = 8;

// One thread per element (or quad) of one sample and group of probes.
template <typename T, typename Packet>
POLARITY_GLOBAL void scale_tangents_kernel(const T* t, const T* d, T* out, TangentLayout layout) {
  constexpr int kWidth = static_cast<int>(sizeof(Packet) / sizeof(T));
  const int64_t packets = layout.size / kWidth;
  const int64_t groups = (layout.probes + kProbesPerThread - 1) / kProbesPerThread;
  const int64_t total = groups * layout.batch * packets;
  for (int64_t index = device::thread_index(); index < total; index += device::grid_threads()) {
    const int64_t sample = index / packets;
    const int64_t i = (index - sample * packets) * kWidth;
    const int64_t group = sample / layout.batch;
    const int64_t b = sample - group * layout.batch;
    const int64_t first = group * kProbesPerThread;
    const int64_t last =
        first + kProbesPerThread < layout.probes ? first + kProbesPerThread : layout.probes;
    const Packet factor = *reinterpret_cast<const Packet*>(d + b * layout.d_batch + i);
    const T* source = t + b * layout.t_batch + i;
    T* target = out + b * layout.out_batch + i;
    for (int64_t l = first; l < last; ++l) {
      Packet packet = *reinterpret_cast<const Packet*>(source + l * layout.t_probe);
#pragma unroll
      for (int lane = 0; lane < kWidth; ++lane) {
        reinterpret_cast<T*>(&packet)[lane] *= reinterpret_cast<const T*>(&factor)[lane];
      }
      device::store_packet_whole(target + l * layout.out_probe, packet);
    }
  }
}

}  // namespace polarity
