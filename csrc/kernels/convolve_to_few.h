// Transposed convolution to a few channels, as at the end of a generator of images:
//   out[n, o, Y, X] = sum of x[n, i, j, c] * weight[c, o, k, l]
// over all c and all (i, k) with stride i + k - padding = Y, likewise (j, l) for X. Matrix products
// would leave most of a vector register empty: here neighbouring pixels share one.
//
// With stride q + r = Y + padding, r the phase of a row: i = q - t and k = r + stride t for each
// tap t. So all phases read the same pixels.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct FewAxis {
  int64_t in, out, kernel, padding;

  // The most that a phase has.
  POLARITY_HOST_DEVICE int64_t taps(int64_t stride) const { return (kernel + stride - 1) / stride; }
  // The least q and the number of those up to the largest.
  POLARITY_HOST_DEVICE int64_t first_cell(int64_t stride) const { return padding / stride; }
  POLARITY_HOST_DEVICE int64_t cells(int64_t stride) const {
    return (out - 1 + padding) / stride + 1 - first_cell(stride);
  }
};

struct FewShape {
  int64_t images, channels, out_channels, stride;
  bool last;  // channels of x: else first
  FewAxis y, x;

  // In x, from one pixel and from one channel to the next.
  POLARITY_HOST_DEVICE int64_t pixel_step() const { return last ? channels : 1; }
  POLARITY_HOST_DEVICE int64_t channel_step() const { return last ? 1 : y.in * x.in; }
};

// What results are multiplied by as they are written: [batch, out_channels, y.out, x.out], image n
// by number n % batch. Null: by nothing.
template <typename T>
struct FewFactor {
  const T* values;
  int64_t batch;
};

// x: images [images, y.in, x.in, channels] or [images, channels, y.in, x.in]; weight [channels,
// out_channels, y.kernel, x.kernel]; out [images, out_channels, y.out, x.out].
namespace cpu {
template <typename T>
void convolve_to_few(const T* x, const T* weight, T* out, const FewShape& shape,
                     FewFactor<T> factor);
}
namespace cuda {
template <typename T>
void convolve_to_few(const T* x, const T* weight, T* out, const FewShape& shape,
                     FewFactor<T> factor, void* stream);
}

}  // namespace polarity
