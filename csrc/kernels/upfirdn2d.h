// Upsampling by inserted zeros, padding (or cropping), a filter, downsampling, along both axes:
//   out[o] = sum_k g[k] z[o down + k - pad],  z[i up] = x[i] and zero elsewhere,
// with g the flipped filter, so that the filter is convolved.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct FirAxis {
  int64_t in, out, taps;
  int64_t up, down, pad;  // pad in front; what comes behind is in `out`

  // The first tap that meets a number of x, not an inserted zero, in output o; every up-th after it
  // does too.
  POLARITY_HOST_DEVICE int64_t first_tap(int64_t o) const {
    const int64_t rest = (pad - o * down) % up;
    return rest < 0 ? rest + up : rest;
  }

  // The input that tap `tap`, one of those, meets; it may lie outside.
  POLARITY_HOST_DEVICE int64_t input(int64_t o, int64_t tap) const {
    return (o * down + tap - pad) / up;  // without remainder
  }
};

struct FirShape {
  int64_t images, channels;  // x is [images, channels, y.in, x.in], or
  bool channels_last;        // [images, y.in, x.in, channels]; out alike
  FirAxis y, x;
};

namespace cpu {
// `taps` is g, [y.taps, x.taps].
template <typename T>
void upfirdn2d(const T* x, const T* taps, T* out, const FirShape& shape);
}  // namespace cpu
namespace cuda {
template <typename T>
void upfirdn2d(const T* x, const T* taps, T* out, const FirShape& shape, void* stream);
}
}  // namespace polarity
