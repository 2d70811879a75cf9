#pragma once

#include "../device/portability.cuh"
#include "upfirdn2d.h"

namespace polarity {

constexpr int kFirBlock = 256;

// One thread for each number of the result; neighbours in memory are neighbours in a warp, and
// share what they read through the cache. The taps are in shared memory.
template <typename T>
POLARITY_GLOBAL void upfirdn2d_kernel(const T* x, const T* taps, T* out, FirShape shape) {
  DYN_SHARED(T, weights);
  for (int64_t i = threadIdx.x; i < shape.y.taps * shape.x.taps; i += kFirBlock) {
    weights[i] = taps[i];
  }
  device::sync_block();
  const int64_t inner = shape.channels_last ? shape.channels : 1;  // between two columns
  const int64_t planes = shape.images * shape.channels / inner;
  const int64_t total = planes * shape.y.out * shape.x.out * inner;
  for (int64_t index = device::thread_index(); index < total; index += device::grid_threads()) {
    const int64_t pixel = index / inner;
    const int64_t channel = index - pixel * inner;
    const int64_t line = pixel / shape.x.out;
    const int64_t column = pixel - line * shape.x.out;
    const int64_t plane = line / shape.y.out;
    const int64_t row = line - plane * shape.y.out;
    const T* source = x + plane * shape.y.in * shape.x.in * inner + channel;
    const int64_t first = shape.x.first_tap(column);
    const int64_t start = shape.x.input(column, first);
    T sum = 0;
    for (int64_t ky = shape.y.first_tap(row); ky < shape.y.taps; ky += shape.y.up) {
      const int64_t y = shape.y.input(row, ky);
      if (y < 0 || y >= shape.y.in) continue;
      int64_t i = start;
      for (int64_t kx = first; kx < shape.x.taps; kx += shape.x.up, ++i) {
        if (i < 0 || i >= shape.x.in) continue;
        sum += weights[ky * shape.x.taps + kx] * source[(y * shape.x.in + i) * inner];
      }
    }
    out[index] = sum;
  }
}

}  // namespace polarity
