// From tensors or arrays to the FirShape of upfirdn2d.
#pragma once

#include "../kernels/upfirdn2d.h"

namespace polarity {

// [*, N, C, H, W] that lies in memory as [*, N, H, W, C] without gaps.
template <class Array>
bool is_channels_last(const Array& x) {
  const int64_t first = x.dim() - 3, channels = x.size(first);
  if (channels < 2 || x.stride(first) != 1) return false;
  int64_t run = channels;
  for (int64_t i = x.dim() - 1; i >= 0; --i) {
    if (i == first) continue;
    if (x.size(i) != 1 && x.stride(i) != run) return false;
    run *= x.size(i);
  }
  return true;
}

// Numbers along an axis that the filter does not fill; less than 0 where it has more taps than
// that.
inline int64_t fir_room(int64_t in, int64_t taps, int64_t up, const int64_t* padding) {
  return in * up + padding[0] + padding[1] - taps;
}

inline FirAxis fir_axis(int64_t in, int64_t taps, int64_t up, int64_t down,
                        const int64_t* padding) {
  return {in, fir_room(in, taps, up, padding) / down + 1, taps, up, down, padding[0]};
}

}  // namespace polarity
