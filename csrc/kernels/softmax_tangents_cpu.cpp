#include "softmax_tangents.h"

#include <algorithm>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kChunk = 4096;  // products summed in the precision of T before double takes over
constexpr int64_t kTile = 1 << 12;   // numbers of y that stay cached while the probes go by
constexpr int64_t kGrain = 1 << 14;  // numbers of a task

// y . t of at most kChunk numbers.
template <Isa isa, typename T>
POLARITY_INLINE double dot_chunk(const T* t, const T* y, int64_t count) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  constexpr int kSums = 4;  // independent, so that additions overlap
  V sum[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kWidth <= count; i += kSums * kWidth) {
    for (int k = 0; k < kSums; ++k) {
      sum[k] += *reinterpret_cast<const V*>(t + i + k * kWidth) *
                *reinterpret_cast<const V*>(y + i + k * kWidth);
    }
  }
  for (; i + kWidth <= count; i += kWidth) {
    sum[0] += *reinterpret_cast<const V*>(t + i) * *reinterpret_cast<const V*>(y + i);
  }
  double total = static_cast<double>(lane_sum<isa, T>((sum[0] + sum[1]) + (sum[2] + sum[3])));
  for (; i < count; ++i) total += static_cast<double>(t[i] * y[i]);
  return total;
}

template <typename T>
struct Operands {
  const T *t, *y;
  T* out;
  RowLayout layout;
  int64_t tile;  // rows taken together
};

template <Isa isa, typename T>
POLARITY_INLINE void softmax_row(const T* t, const T* y, T* out, int64_t size) {
  double total = 0.0;
  for (int64_t first = 0; first < size; first += kChunk) {
    total += dot_chunk<isa>(t + first, y + first, std::min(kChunk, size - first));
  }
  const T mean = static_cast<T>(total);
#pragma GCC ivdep  // out is a fresh allocation
  for (int64_t i = 0; i < size; ++i) out[i] = y[i] * (t[i] - mean);
}

// Items begin .. end of (tile of rows, probe), the probe fastest: y stays cached.
template <Isa isa, typename T>
POLARITY_INLINE void softmax_body(const Operands<T>& o, int64_t begin, int64_t end) {
  const int64_t size = o.layout.size;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t tile = item / o.layout.probes;
    const int64_t probe = item - tile * o.layout.probes;
    const int64_t last = std::min((tile + 1) * o.tile, o.layout.rows);
    const T* t = o.t + probe * o.layout.t_probe;
    T* out = o.out + probe * o.layout.rows * size;
    for (int64_t row = tile * o.tile; row < last; ++row) {
      softmax_row<isa>(t + row * size, o.y + row * size, out + row * size, size);
    }
  }
}
POLARITY_ISA_VARIANTS(softmax, (const Operands<float>& o, int64_t begin, int64_t end),
                      (o, begin, end))
POLARITY_ISA_VARIANTS(softmax, (const Operands<double>& o, int64_t begin, int64_t end),
                      (o, begin, end))

}  // namespace

template <typename T>
void softmax_tangents(const T* t, const T* y, T* out, const RowLayout& layout) {
  if (layout.probes * layout.rows * layout.size == 0) return;
  const int64_t tile = std::clamp<int64_t>(kTile / layout.size, 1, layout.rows);
  const Operands<T> operands{t, y, out, layout, tile};
  const int64_t items = (layout.rows + tile - 1) / tile * layout.probes;
  parallel_for(items, std::max<int64_t>(1, kGrain / (tile * layout.size)),
               [&](int64_t begin, int64_t end) { softmax(operands, begin, end); });
}

template void softmax_tangents<float>(const float*, const float*, float*, const RowLayout&);
template void softmax_tangents<double>(const double*, const double*, double*, const RowLayout&);

}  // namespace polarity::cpu
