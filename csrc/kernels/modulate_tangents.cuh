#pragma once

#include "../device/packet.cuh"
#include "../device/reduce.cuh"
#include "modulate_tangents.h"

namespace polarity {

constexpr int kModulateBlock = 256;
constexpr int64_t kModulateProbes = 8;  // that one thread serves: x is read once for all of them

// One thread for each packet of a sample and group of probes. A packet is of one channel, or of
// adjacent channels where those are last.
template <typename T, typename Packet>
POLARITY_GLOBAL void modulate_tangents_kernel(const T* tx, const T* x, const T* s, const T* ts,
                                              T* out, ModulateLayout layout) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  const int64_t sample = layout.channels * layout.pixels;
  const int64_t packets = layout.batch * sample / kWidth;
  const int64_t groups = (layout.probes + kModulateProbes - 1) / kModulateProbes;
  for (int64_t index = device::thread_index(); index < packets * groups;
       index += device::grid_threads()) {
    const int64_t group = index / packets;
    const int64_t i = (index - group * packets) * kWidth;  // in a probe
    const int64_t b = i / sample;
    const int64_t rest = i - b * sample;
    const int64_t channel = layout.channels_last ? rest % layout.channels : rest / layout.pixels;
    const int64_t style = b * layout.channels + channel;
    Packet point = device::load_packet<Packet>(x + i);
    const int64_t first = group * kModulateProbes;
    const int64_t last =
        first + kModulateProbes < layout.probes ? first + kModulateProbes : layout.probes;
    for (int64_t l = first; l < last; ++l) {
      Packet packet = device::load_packet<Packet>(tx + l * layout.t_probe + i);
      const T* tangents = ts + l * layout.batch * layout.channels + style;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        const int64_t c = layout.channels_last ? k : 0;
        T& value = device::element(packet, k);
        value = value * s[style + c] + device::element(point, k) * tangents[c];
      }
      device::store_packet_whole(out + l * layout.batch * sample + i, packet);
    }
  }
}

// Channels first: kThreads of a block, a warp or all of them, share the pixels of a channel.
template <typename T, typename Packet, int kThreads>
POLARITY_GLOBAL void modulate_cotangents_kernel(const T* u, const T* x, const T* s, T* out, T* sums,
                                                ModulateLayout layout) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  constexpr int64_t kItems = kModulateBlock / kThreads;
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  const int64_t channels = layout.batch * layout.channels;
  const int64_t pixels = layout.pixels;
  for (int64_t item = blockIdx.x * kItems + threadIdx.x / kThreads; item < channels * layout.probes;
       item += gridDim.x * kItems) {
    const int64_t channel = item / layout.probes;  // the probes are neighbours: x is cached
    const int64_t probe = item - channel * layout.probes;
    const T* from = u + probe * layout.t_probe + channel * pixels;
    T* to = out + (probe * channels + channel) * pixels;
    const T scale = s[channel];
    T sum = 0;
    for (int64_t i = thread * kWidth; i < pixels; i += kThreads * kWidth) {
      Packet packet = device::load_packet<Packet>(from + i);
      Packet point = device::load_packet<Packet>(x + channel * pixels + i);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        T& value = device::element(packet, k);
        sum += value * device::element(point, k);
        value *= scale;
      }
      device::store_packet_whole(to + i, packet);
    }
    if constexpr (kThreads == 32) {
      sum = device::warp_sum(sum);
    } else {
      sum = device::block_sum<kThreads>(sum);
    }
    if (thread == 0) sums[probe * channels + channel] = sum;
  }
}

// Channels last: a block has 32 adjacent channels.
constexpr int kModulateColumns = 32;

template <typename T, typename Packet>
POLARITY_GLOBAL void modulate_columns_kernel(const T* u, const T* x, const T* s, T* out, T* sums,
                                             ModulateLayout layout) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  constexpr int kLanes = kModulateColumns / kWidth;     // of a pixel
  constexpr int64_t kPixels = kModulateBlock / kLanes;  // at a time
  constexpr int kWarps = kModulateBlock / 32;
  // So many are read before the first of them is written: loads overlap.
  constexpr int kBatch = sizeof(Packet) > 16 ? 2 : 4;
  constexpr int64_t kChunk = 64 * kPixels;  // summed apart: errors do not grow
  SHARED_ARRAY(T, parts, kWarps * kModulateColumns);
  const int thread = static_cast<int>(threadIdx.x);
  const int first_column = thread % kLanes * kWidth;
  const int64_t first_pixel = thread / kLanes;
  const int64_t tiles = (layout.channels + kModulateColumns - 1) / kModulateColumns;
  const int64_t sample = layout.channels * layout.pixels;
  for (int64_t item = blockIdx.x; item < layout.batch * tiles * layout.probes; item += gridDim.x) {
    const int64_t probe = item % layout.probes;
    const int64_t b = item / layout.probes / tiles;
    const int64_t first = item / layout.probes % tiles * kModulateColumns;
    const int64_t channel = first + first_column;
    const T* from = u + probe * layout.t_probe + b * sample + channel;
    const T* point = x + b * sample + channel;
    T* to = out + (probe * layout.batch + b) * sample + channel;
    T sum[kWidth] = {};
    if (channel < layout.channels) {
      Packet scales = device::load_packet<Packet>(s + b * layout.channels + channel);
      for (int64_t chunk = first_pixel; chunk < layout.pixels; chunk += kChunk) {
        const int64_t last = chunk + kChunk < layout.pixels ? chunk + kChunk : layout.pixels;
        T part[kWidth] = {};
        for (int64_t pixel = chunk; pixel < last; pixel += kBatch * kPixels) {
          Packet values[kBatch], points[kBatch];
#pragma unroll
          for (int i = 0; i < kBatch; ++i) {
            const int64_t at = (pixel + i * kPixels) * layout.channels;
            if (pixel + i * kPixels >= last) break;
            values[i] = device::load_packet<Packet>(from + at);
            points[i] = device::load_packet<Packet>(point + at);
          }
#pragma unroll
          for (int i = 0; i < kBatch; ++i) {
            if (pixel + i * kPixels >= last) break;
#pragma unroll
            for (int k = 0; k < kWidth; ++k) {
              T& value = device::element(values[i], k);
              part[k] += value * device::element(points[i], k);
              value *= device::element(scales, k);
            }
            device::store_packet_whole(to + (pixel + i * kPixels) * layout.channels, values[i]);
          }
        }
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sum[k] += part[k];
      }
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
#pragma unroll
      for (int other = kLanes; other < 32; other *= 2) {  // the pixels of a warp
        sum[k] += device::shuffle_xor(sum[k], other);
      }
      if (thread % 32 < kLanes) parts[thread / 32 * kModulateColumns + first_column + k] = sum[k];
    }
    device::sync_block();
    if (thread < kModulateColumns && first + thread < layout.channels) {
      T total = 0;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) total += parts[warp * kModulateColumns + thread];
      sums[(probe * layout.batch + b) * layout.channels + first + thread] = total;
    }
    device::sync_block();  // the next item writes where this one has read
  }
}

}  // namespace polarity
