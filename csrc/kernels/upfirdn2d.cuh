#pragma once

#include <type_traits>

#include "../device/packet.cuh"
#include "upfirdn2d.h"

namespace polarity {

constexpr int kFirBlock = 128;
constexpr int kFirChannels = 4;  // of a thread, and
constexpr int kFirRows = 4;      // so many rows of each: a tap and an index serve 16 numbers

// Of numbers that are not negative: without a sign there is less to do.
template <typename Index>
POLARITY_DEVICE Index divide(Index a, Index b) {
  using Unsigned = std::make_unsigned_t<Index>;
  return static_cast<Index>(static_cast<Unsigned>(a) / static_cast<Unsigned>(b));
}

// One axis. Index is 32 bits wide where every number of a call fits into them (a multiplication
// and a division of 64 bits take several times as many instructions).
template <typename Index>
struct FirSteps {
  Index in, out, taps, up, down;
  Index ahead, rest;  // -pad = ahead up + rest with 0 <= rest < up: no division of negative numbers

  // What output o meets first: number `input` of x (it may lie outside) under tap `tap`; then the
  // number after it under the tap `up` further on, and so forth.
  struct Meeting {
    Index input, tap;
  };
  POLARITY_DEVICE Meeting first(Index o) const {
    const Index position = o * down + rest;
    const Index input = divide(position + up - 1, up);
    return {ahead + input, input * up - position};
  }
};

// x and out as images of channels, either of which may be what lies in memory without gaps.
template <typename Index>
struct FirPlan {
  FirSteps<Index> y, x;
  Index images, channels;
  Index image, channel, pixel;  // strides of x; those of out follow from its size
  Index out_image, out_channel;
  Index groups;         // of kFirChannels channels, the last one with what is left
  bool channels_inner;  // the groups are what neighbouring threads take, else columns are

  // Outputs `step` rows apart meet the same taps, and rows of x `shift` apart. A strip is kFirRows
  // such outputs of a column.
  Index step, shift, strips;
};

// kFirChannels numbers, one of each channel of a thread.
template <typename T>
using FirNumbers = device::Quad<T>;

// One thread for each strip of a group of channels. The taps are in shared memory; neighbouring
// threads find the pixels of their neighbours in the cache. kAdjacent: a group is four numbers of
// memory that may be read at once.
template <typename T, bool kAdjacent, typename Index>
POLARITY_GLOBAL void upfirdn2d_kernel(const T* x, const T* taps, T* out, FirPlan<Index> plan) {
  using Numbers = FirNumbers<T>;
  DYN_SHARED(T, weights);
#pragma unroll 1
  for (Index i = threadIdx.x; i < plan.y.taps * plan.x.taps; i += kFirBlock) weights[i] = taps[i];
  device::sync_block();
  const Index inner = plan.channels_inner ? plan.groups : 1;
  const Index outer = plan.channels_inner ? plan.images : plan.groups;
  const Index line = plan.x.out * inner;
  const Index pitch = plan.x.in * plan.pixel;   // between two rows of x
  const Index stride = plan.shift * plan.y.up;  // between two taps of a turn, see below
  const Index total = outer * plan.strips * line;
  for (Index index = static_cast<Index>(device::thread_index()); index < total;
       index += static_cast<Index>(device::grid_threads())) {
    const Index lines = divide(index, line);
    const Index along = index - lines * line;
    const Index slab = divide(lines, plan.strips);
    const Index strip = lines - slab * plan.strips;
    const Index column = plan.channels_inner ? divide(along, plan.groups) : along;
    const Index image = plan.channels_inner ? slab : 0;
    const Index group = plan.channels_inner ? along - column * plan.groups : slab;
    const Index tall = divide(strip, plan.step);
    const Index top = tall * plan.step * kFirRows + (strip - tall * plan.step);

    const Index channel = group * kFirChannels;
    const Index last = plan.channels - 1 - channel;  // a group with fewer repeats its last channel
    const auto load = [&](const Index(&column_of)[kFirChannels], Index y) {
      Numbers numbers{};
      if (y < 0 || y >= plan.y.in) return numbers;
      if constexpr (kAdjacent) {
        numbers = device::load_packet<Numbers>(x + (column_of[0] + y * pitch));
      } else {
#pragma unroll
        for (int c = 0; c < kFirChannels; ++c) numbers.value[c] = x[column_of[c] + y * pitch];
      }
      return numbers;
    };

    Numbers sums[kFirRows]{};
    const auto start = plan.y.first(top);
    auto [i, kx] = plan.x.first(column);
    if (i < 0) kx -= i * plan.x.up, i = 0;
    Index sources[kFirChannels];  // where column i of x begins
#pragma unroll
    for (Index c = 0; c < kFirChannels; ++c) {
      const Index repeated = channel + (c < last ? c : last);
      sources[c] = image * plan.image + repeated * plan.channel + i * plan.pixel;
    }
    for (; kx < plan.x.taps && i < plan.x.in; ++i, kx += plan.x.up) {
      // Taps whose rows of x are `shift` apart meet those of the strip in turn: from one such tap
      // to the next, one row of x leaves the window and one enters.
      for (Index turn = 0; turn < plan.shift; ++turn) {
        Index ky = start.tap + turn * plan.y.up;
        if (ky >= plan.y.taps) break;
        Index y = start.input + turn;
        Index tap = ky * plan.x.taps + kx;
        Numbers window[kFirRows];
#pragma unroll
        for (int j = 1; j < kFirRows; ++j, y += plan.shift) window[j] = load(sources, y);
#pragma unroll(kAdjacent ? 2 : 4)  // faster on an H200 than 4, or 2
        for (; ky < plan.y.taps; ky += stride, y += plan.shift, tap += stride * plan.x.taps) {
#pragma unroll
          for (int j = 1; j < kFirRows; ++j) window[j - 1] = window[j];
          window[kFirRows - 1] = load(sources, y);
#pragma unroll
          for (int j = 0; j < kFirRows; ++j) {
#pragma unroll
            for (int c = 0; c < kFirChannels; ++c) {
              sums[j].value[c] += weights[tap] * window[j].value[c];
            }
          }
        }
      }
#pragma unroll
      for (auto& source : sources) source += plan.pixel;
    }

#pragma unroll
    for (int j = 0; j < kFirRows; ++j) {
      const Index row = top + j * plan.step;
      if (row >= plan.y.out) break;
      const Index target = image * plan.out_image + channel * plan.out_channel +
                           (row * plan.x.out + column) * plan.pixel;
      if constexpr (kAdjacent) {
        device::store_packet_whole(out + target, sums[j]);
      } else {
#pragma unroll
        for (Index c = 0; c < kFirChannels; ++c) {
          if (c <= last) out[target + c * plan.out_channel] = sums[j].value[c];
        }
      }
    }
  }
}

}  // namespace polarity
