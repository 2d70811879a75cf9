// Activations with two slopes, ReLU and leaky ReLU, whose derivative is kept as one bit a unit.
// Every sample has `size` numbers and ceil(size / 8) bytes of bits, the lowest one first; those
// behind the last number are zero.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct MaskLayout {
  int64_t probes, batch, size;
  int64_t t_probe, t_batch;      // strides of t, in elements
  int64_t out_probe, out_batch;  // strides of out

  POLARITY_HOST_DEVICE int64_t bytes() const { return (size + 7) / 8; }
};

namespace cpu {
// y = x where x > 0, else slope x; bit: x > 0. A slope of zero gives zero, for -infinity too.
template <typename T>
void rectify(const T* x, T slope, T* y, uint8_t* bits, int64_t batch, int64_t size);

// out[l, b, i] = t[l, b, i] * (bit i of sample b ? high : low). out may be t.
template <typename T>
void mask_tangents(const T* t, const uint8_t* bits, T low, T high, T* out,
                   const MaskLayout& layout);
}  // namespace cpu
namespace cuda {
template <typename T>
void rectify(const T* x, T slope, T* y, uint8_t* bits, int64_t batch, int64_t size, void* stream);
template <typename T>
void mask_tangents(const T* t, const uint8_t* bits, T low, T high, T* out, const MaskLayout& layout,
                   void* stream);
}  // namespace cuda

// NaN comes through, as NaN.
template <typename T>
POLARITY_HOST_DEVICE T rectified(T x, T slope) {
  const T zero = T(0);
  const T below = slope == zero && x <= zero ? zero : x * slope;
  return x > zero ? x : x <= zero ? below : x;
}
}  // namespace polarity
