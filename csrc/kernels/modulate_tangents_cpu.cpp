#include "modulate_tangents.h"

#include <algorithm>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kTile = 1 << 12;   // numbers of x that stay cached while the probes go by
constexpr int64_t kGrain = 1 << 14;  // numbers of a task
constexpr int64_t kChunk =
    1 << 12;                       // products summed in the precision of T before double takes over
constexpr int64_t kColumns = 256;  // sums kept side by side where channels are last
constexpr int64_t kRows = 32;      // pixels of a column summed in the precision of T

template <typename T>
struct Operands {
  const T *t, *x, *s, *ts;
  T *out, *sums;
  ModulateLayout layout;
  int64_t tile;  // channels, or pixels where channels are last, taken together
};

// Where one tile of one sample and probe begins.
struct Place {
  int64_t first, last;     // of the tile
  int64_t style, tangent;  // offsets of s[b] and ts[l, b]
  int64_t x, t, out;       // offsets of the sample
};

// `item` counts (sample, tile, probe), the probe fastest.
POLARITY_INLINE Place place_of(const ModulateLayout& layout, int64_t tile, int64_t count,
                               int64_t item) {
  const int64_t tiles = (count + tile - 1) / tile;
  const int64_t probe = item % layout.probes;
  const int64_t b = item / layout.probes / tiles;
  const int64_t first = item / layout.probes % tiles * tile;
  const int64_t sample = layout.channels * layout.pixels;
  return {first,
          std::min(first + tile, count),
          b * layout.channels,
          (probe * layout.batch + b) * layout.channels,
          b * sample,
          probe * layout.t_probe + b * sample,
          (probe * layout.batch + b) * sample};
}

template <Isa isa, typename T>
POLARITY_INLINE void tangents_body(const Operands<T>& o, int64_t begin, int64_t end) {
  const ModulateLayout& layout = o.layout;
  const int64_t channels = layout.channels;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t count = layout.channels_last ? layout.pixels : channels;
    const Place at = place_of(layout, o.tile, count, item);
    const T* t = o.t + at.t;
    const T* x = o.x + at.x;
    const T* s = o.s + at.style;
    const T* ts = o.ts + at.tangent;
    T* out = o.out + at.out;
    for (int64_t row = at.first; row < at.last; ++row) {
      if (layout.channels_last) {
        const int64_t start = row * channels;
#pragma GCC ivdep  // out is a fresh allocation, or t itself
        for (int64_t c = 0; c < channels; ++c) {
          out[start + c] = t[start + c] * s[c] + x[start + c] * ts[c];
        }
      } else {
        const T scale = s[row], slope = ts[row];
        const int64_t start = row * layout.pixels;
#pragma GCC ivdep
        for (int64_t i = start; i < start + layout.pixels; ++i) {
          out[i] = t[i] * scale + x[i] * slope;
        }
      }
    }
  }
}
POLARITY_ISA_VARIANTS(tangents, (const Operands<float>& o, int64_t begin, int64_t end),
                      (o, begin, end))
POLARITY_ISA_VARIANTS(tangents, (const Operands<double>& o, int64_t begin, int64_t end),
                      (o, begin, end))

// out = u s and the sum of u x, of at most kChunk numbers.
template <Isa isa, typename T>
POLARITY_INLINE double pull_chunk(const T* u, const T* x, T s, T* out, int64_t count) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  constexpr int kSums = 4;  // independent, so that additions overlap
  V sum[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kWidth <= count; i += kSums * kWidth) {
    for (int k = 0; k < kSums; ++k) {
      const V value = *reinterpret_cast<const V*>(u + i + k * kWidth);
      sum[k] += value * *reinterpret_cast<const V*>(x + i + k * kWidth);
      *reinterpret_cast<V*>(out + i + k * kWidth) = value * s;
    }
  }
  double total = static_cast<double>(lane_sum<isa, T>((sum[0] + sum[1]) + (sum[2] + sum[3])));
  for (; i < count; ++i) {
    total += static_cast<double>(u[i] * x[i]);
    out[i] = u[i] * s;
  }
  return total;
}

// `count` <= kColumns channels that are last, all pixels.
template <typename T>
POLARITY_INLINE void pull_columns(const T* u, const T* x, const T* s, T* out, T* sums,
                                  int64_t pixels, int64_t stride, int64_t count) {
  double total[kColumns] = {};
  T part[kColumns];
  for (int64_t first = 0; first < pixels; first += kRows) {
    const int64_t last = std::min(first + kRows, pixels);
    std::fill_n(part, count, T(0));
    int64_t row = first;
    for (; row + 4 <= last; row += 4) {  // four at a time: sums are loaded and stored less often
      const T* a = u + row * stride;
      const T* b = x + row * stride;
      T* to = out + row * stride;
#pragma GCC ivdep  // out is a fresh allocation
      for (int64_t c = 0; c < count; ++c) {
        const T u0 = a[c], u1 = a[c + stride], u2 = a[c + 2 * stride], u3 = a[c + 3 * stride];
        part[c] +=
            (u0 * b[c] + u1 * b[c + stride]) + (u2 * b[c + 2 * stride] + u3 * b[c + 3 * stride]);
        to[c] = u0 * s[c];
        to[c + stride] = u1 * s[c];
        to[c + 2 * stride] = u2 * s[c];
        to[c + 3 * stride] = u3 * s[c];
      }
    }
    for (; row < last; ++row) {
      const int64_t start = row * stride;
      for (int64_t c = 0; c < count; ++c) {
        part[c] += u[start + c] * x[start + c];
        out[start + c] = u[start + c] * s[c];
      }
    }
    for (int64_t c = 0; c < count; ++c) total[c] += static_cast<double>(part[c]);
  }
  for (int64_t c = 0; c < count; ++c) sums[c] = static_cast<T>(total[c]);
}

template <Isa isa, typename T>
POLARITY_INLINE void cotangents_body(const Operands<T>& o, int64_t begin, int64_t end) {
  const ModulateLayout& layout = o.layout;
  for (int64_t item = begin; item < end; ++item) {
    const Place at = place_of(layout, o.tile, layout.channels, item);
    const T* u = o.t + at.t;
    const T* x = o.x + at.x;
    T* out = o.out + at.out;
    if (layout.channels_last) {
      pull_columns(u + at.first, x + at.first, o.s + at.style + at.first, out + at.first,
                   o.sums + at.tangent + at.first, layout.pixels, layout.channels,
                   at.last - at.first);
      continue;
    }
    for (int64_t c = at.first; c < at.last; ++c) {
      const int64_t start = c * layout.pixels;
      double total = 0.0;
      for (int64_t i = 0; i < layout.pixels; i += kChunk) {
        total += pull_chunk<isa>(u + start + i, x + start + i, o.s[at.style + c], out + start + i,
                                 std::min(kChunk, layout.pixels - i));
      }
      o.sums[at.tangent + c] = static_cast<T>(total);
    }
  }
}
POLARITY_ISA_VARIANTS(cotangents, (const Operands<float>& o, int64_t begin, int64_t end),
                      (o, begin, end))
POLARITY_ISA_VARIANTS(cotangents, (const Operands<double>& o, int64_t begin, int64_t end),
                      (o, begin, end))

// body(begin, end) over all (sample, tile of `count`, probe); `size` numbers belong to each of the
// `count`.
template <class Body>
void over_tiles(const ModulateLayout& layout, int64_t count, int64_t tile, int64_t size,
                const Body& body) {
  const int64_t items = layout.batch * ((count + tile - 1) / tile) * layout.probes;
  parallel_for(items, std::max<int64_t>(1, kGrain / (tile * std::max<int64_t>(1, size))), body);
}

}  // namespace

template <typename T>
void modulate_tangents(const T* tx, const T* x, const T* s, const T* ts, T* out,
                       const ModulateLayout& layout) {
  if (layout.probes * layout.batch * layout.channels * layout.pixels == 0) return;
  const int64_t count = layout.channels_last ? layout.pixels : layout.channels;
  const int64_t size = layout.channels_last ? layout.channels : layout.pixels;
  const int64_t tile = std::clamp<int64_t>(kTile / size, 1, count);
  const Operands<T> operands{tx, x, s, ts, out, nullptr, layout, tile};
  over_tiles(layout, count, tile, size,
             [&](int64_t begin, int64_t end) { tangents(operands, begin, end); });
}

template <typename T>
void modulate_cotangents(const T* u, const T* x, const T* s, T* out, T* sums,
                         const ModulateLayout& layout) {
  if (layout.probes * layout.batch * layout.channels == 0) return;
  const int64_t wanted =
      layout.channels_last ? kColumns : kTile / std::max<int64_t>(1, layout.pixels);
  const int64_t tile = std::clamp<int64_t>(wanted, 1, layout.channels);
  const Operands<T> operands{u, x, s, nullptr, out, sums, layout, tile};
  over_tiles(layout, layout.channels, tile, layout.pixels,
             [&](int64_t begin, int64_t end) { cotangents(operands, begin, end); });
}

#define POLARITY_INSTANTIATE(T)                                                  \
  template void modulate_tangents<T>(const T*, const T*, const T*, const T*, T*, \
                                     const ModulateLayout&);                     \
  template void modulate_cotangents<T>(const T*, const T*, const T*, T*, T*, const ModulateLayout&);
POLARITY_INSTANTIATE(float)
POLARITY_INSTANTIATE(double)

}  // namespace polarity::cpu
