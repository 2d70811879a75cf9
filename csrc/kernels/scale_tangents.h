// out[l, b, i] = t[l, b, i] * d[b, i]: a batch of tangents times a per-sample derivative or mask.
// Every sample is one dense run of `size` numbers; l and b have strides of their own.
#pragma once

#include <cstdint>

namespace polarity {

struct TangentLayout {
  int64_t probes, batch, size;
  int64_t t_probe, t_batch;      // strides of t, in elements
  int64_t out_probe, out_batch;  // strides of out
  int64_t d_batch;               // stride of d
};

namespace cpu {
template <typename T>
void scale_tangents(const T* t, const T* d, T* out, const TangentLayout& layout);
}
namespace cuda {
template <typename T>
void scale_tangents(const T* t, const T* d, T* out, const TangentLayout& layout, void* stream);
}
}  // namespace polarity
