// out = r (t - mean(t) - xhat mean(xhat t)) within each group, without the first mean where nothing
// was centred: the tangent of the normalisation xhat = r (x - mean(x)). As a map of t it is its own
// transpose.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

// One probe of t is a dense [outer, rows, inner, run]; the numbers of one outer and one inner index
// are a group. [B, groups, N] is {1, 1, B groups, N}; channels-last images are
// {B, pixels, groups, channels of a group}; pixel norm of images is {B, channels, pixels, 1}.
struct GroupLayout {
  int64_t probes, outer, rows, inner, run;
  int64_t t_probe;  // stride of the probes of t, in elements

  POLARITY_HOST_DEVICE int64_t sample() const { return rows * inner * run; }
};

namespace cpu {
template <typename T>
void normalize_tangents(const T* t, const T* xhat, const T* r, bool center, T* out,
                        const GroupLayout& layout);
}
namespace cuda {
template <typename T>
void normalize_tangents(const T* t, const T* xhat, const T* r, bool center, T* out,
                        const GroupLayout& layout, void* stream);
}
}  // namespace polarity
