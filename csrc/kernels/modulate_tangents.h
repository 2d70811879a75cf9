// A style s scales the channels of x. Tangents: out = tx s + x ts. Cotangents, its transpose:
// out = u s, and sum(u x) over the pixels of every channel. modulate_tangents may have out = tx,
// where probes follow one another.
#pragma once

#include <cstdint>

namespace polarity {

// tx, u and out are [probes, batch, sample], x is [batch, sample]; s is [batch, channels], ts and
// the sums are [probes, batch, channels], dense. A sample is [channels, pixels], or
// [pixels, channels] where the channels are last.
struct ModulateLayout {
  int64_t probes, batch, channels, pixels;
  bool channels_last;
  int64_t t_probe;  // stride of the probes of tx or u, in elements
};

namespace cpu {
template <typename T>
void modulate_tangents(const T* tx, const T* x, const T* s, const T* ts, T* out,
                       const ModulateLayout& layout);
template <typename T>
void modulate_cotangents(const T* u, const T* x, const T* s, T* out, T* sums,
                         const ModulateLayout& layout);
}  // namespace cpu
namespace cuda {
template <typename T>
void modulate_tangents(const T* tx, const T* x, const T* s, const T* ts, T* out,
                       const ModulateLayout& layout, void* stream);
template <typename T>
void modulate_cotangents(const T* u, const T* x, const T* s, T* out, T* sums,
                         const ModulateLayout& layout, void* stream);
}  // namespace cuda
}  // namespace polarity
