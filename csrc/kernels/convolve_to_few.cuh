#pragma once

#include "../device/portability.cuh"
#include "convolve_to_few.h"

namespace polarity {

constexpr int kFewBlock = 256;
constexpr int kFewChannels = 4;  // sums of a thread

// One thread for each pixel of the results and kFewChannels of its channels. Neighbours in a warp
// have the same phase, so that they read the same numbers of the weight, and neighbouring pixels of
// x, whose cache lines serve the next channels.
template <typename T>
POLARITY_GLOBAL void convolve_to_few_kernel(const T* x, const T* weight, T* out, FewShape shape) {
  const FewAxis& down = shape.y;
  const FewAxis& across = shape.x;
  const int64_t stride = shape.stride;
  const int64_t groups = (shape.out_channels + kFewChannels - 1) / kFewChannels;
  const int64_t columns = (across.out + stride - 1) / stride;  // pixels X of a phase, at most
  const int64_t work = shape.images * groups * down.out * stride * columns;
  const int64_t taps = down.kernel * across.kernel;
  for (int64_t index = device::thread_index(); index < work; index += device::grid_threads()) {
    int64_t rest = index / columns;
    const int64_t X = index % columns * stride + rest % stride;
    rest /= stride;
    const int64_t Y = rest % down.out;
    rest /= down.out;
    const int64_t first = rest % groups * kFewChannels, image = rest / groups;
    if (X >= across.out) continue;
    T sum[kFewChannels] = {};
    for (int64_t k = (Y + down.padding) % stride; k < down.kernel; k += stride) {
      const int64_t i = (Y + down.padding - k) / stride;
      if (Y + down.padding < k || i >= down.in) continue;
      for (int64_t l = (X + across.padding) % stride; l < across.kernel; l += stride) {
        const int64_t j = (X + across.padding - l) / stride;
        if (X + across.padding < l || j >= across.in) continue;
        const T* const pixel = x + image * shape.channels * down.in * across.in +
                               (i * across.in + j) * shape.pixel_step();
        const T* tap = weight + first * taps + k * across.kernel + l;
#pragma unroll 1  // more of them on their way would take the registers of other warps
        for (int64_t c = 0; c < shape.channels; ++c) {
          const T number = pixel[c * shape.channel_step()];
#pragma unroll
          for (int o = 0; o < kFewChannels; ++o) {
            if (first + o < shape.out_channels) sum[o] += number * tap[o * taps];
          }
          tap += shape.out_channels * taps;
        }
      }
    }
#pragma unroll
    for (int o = 0; o < kFewChannels; ++o) {
      if (first + o < shape.out_channels) {
        out[((image * shape.out_channels + first + o) * down.out + Y) * across.out + X] = sum[o];
      }
    }
  }
}

}  // namespace polarity
