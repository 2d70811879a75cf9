#include "normalize_tangents.h"

#include <algorithm>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kChunk = 4096;    // numbers summed in the precision of T before double takes over
constexpr int64_t kColumns = 256;   // sums kept side by side where a group is strided
constexpr int64_t kTile = 1 << 12;  // numbers of xhat that stay cached while the probes go by
constexpr int64_t kGrain = 1 << 14;  // numbers of a task

struct Sums {
  double t = 0.0, product = 0.0;

  Sums& operator+=(const Sums& other) {
    t += other.t;
    product += other.product;
    return *this;
  }
};

// Sums of t and of t xhat over at most kChunk numbers.
template <Isa isa, typename T>
POLARITY_INLINE Sums sum_chunk(const T* t, const T* xhat, int64_t count) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  constexpr int kSums = 4;  // independent, so that additions overlap
  V sum[kSums] = {}, product[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kWidth <= count; i += kSums * kWidth) {
    for (int k = 0; k < kSums; ++k) {
      const V value = *reinterpret_cast<const V*>(t + i + k * kWidth);
      sum[k] += value;
      product[k] += value * *reinterpret_cast<const V*>(xhat + i + k * kWidth);
    }
  }
  for (; i + kWidth <= count; i += kWidth) {
    const V value = *reinterpret_cast<const V*>(t + i);
    sum[0] += value;
    product[0] += value * *reinterpret_cast<const V*>(xhat + i);
  }
  const V all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  const V products = (product[0] + product[1]) + (product[2] + product[3]);
  Sums sums{static_cast<double>(lane_sum<isa, T>(all)),
            static_cast<double>(lane_sum<isa, T>(products))};
  for (; i < count; ++i) {
    sums.t += static_cast<double>(t[i]);
    sums.product += static_cast<double>(t[i] * xhat[i]);
  }
  return sums;
}

// One group in one run of memory.
template <Isa isa, typename T>
POLARITY_INLINE void normalize_run(const T* t, const T* xhat, T r, bool center, T* out,
                                   int64_t count) {
  Sums sums;
  for (int64_t first = 0; first < count; first += kChunk) {
    sums += sum_chunk<isa>(t + first, xhat + first, std::min(kChunk, count - first));
  }
  const double scale = 1.0 / static_cast<double>(count);
  const T mean = center ? static_cast<T>(sums.t * scale) : T(0);
  const T slope = static_cast<T>(sums.product * scale);
#pragma GCC ivdep  // out is a fresh allocation
  for (int64_t i = 0; i < count; ++i) {
    out[i] = r * ((t[i] - mean) - xhat[i] * slope);
  }
}

// Sums over the rows, for `count` <= kColumns adjacent columns of rows `stride` apart.
template <typename T>
POLARITY_INLINE void sum_columns(const T* t, const T* xhat, int64_t rows, int64_t stride,
                                 int64_t count, double* sum, double* product) {
  constexpr int64_t kRows = 32;  // summed in the precision of T
  T part_sum[kColumns], part_product[kColumns];
  std::fill_n(sum, count, 0.0);
  std::fill_n(product, count, 0.0);
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t last = std::min(first + kRows, rows);
    std::fill_n(part_sum, count, T(0));
    std::fill_n(part_product, count, T(0));
    int64_t row = first;
    for (; row + 4 <= last;
         row += 4) {  // four at a time: the sums are loaded and stored less often
      const T* a = t + row * stride;
      const T* b = xhat + row * stride;
      for (int64_t c = 0; c < count; ++c) {
        const T t0 = a[c], t1 = a[c + stride], t2 = a[c + 2 * stride], t3 = a[c + 3 * stride];
        part_sum[c] += (t0 + t1) + (t2 + t3);
        part_product[c] +=
            (t0 * b[c] + t1 * b[c + stride]) + (t2 * b[c + 2 * stride] + t3 * b[c + 3 * stride]);
      }
    }
    for (; row < last; ++row) {
      for (int64_t c = 0; c < count; ++c) {
        part_sum[c] += t[row * stride + c];
        part_product[c] += t[row * stride + c] * xhat[row * stride + c];
      }
    }
    for (int64_t c = 0; c < count; ++c) {
      sum[c] += static_cast<double>(part_sum[c]);
      product[c] += static_cast<double>(part_product[c]);
    }
  }
}

// Groups first .. last of one sample whose rows are strided: either one group, or together no wider
// than kColumns.
template <typename T>
POLARITY_INLINE void normalize_groups(const T* t, const T* xhat, const T* r, bool center, T* out,
                                      int64_t rows, int64_t stride, int64_t run, int64_t groups) {
  double sum[kColumns], product[kColumns];
  T mean[kColumns], slope[kColumns], factor[kColumns];  // of each column
  const int64_t width = groups * run;
  const double scale = 1.0 / static_cast<double>(rows * run);
  if (width > kColumns) {  // one wide group: its columns share their sums
    Sums sums;
    for (int64_t column = 0; column < width; column += kColumns) {
      const int64_t count = std::min(kColumns, width - column);
      sum_columns(t + column, xhat + column, rows, stride, count, sum, product);
      for (int64_t c = 0; c < count; ++c) sums += Sums{sum[c], product[c]};
    }
    std::fill_n(mean, kColumns, center ? static_cast<T>(sums.t * scale) : T(0));
    std::fill_n(slope, kColumns, static_cast<T>(sums.product * scale));
    std::fill_n(factor, kColumns, r[0]);
  } else {
    sum_columns(t, xhat, rows, stride, width, sum, product);
    for (int64_t group = 0; group < groups; ++group) {
      Sums sums;
      for (int64_t c = group * run; c < (group + 1) * run; ++c) sums += Sums{sum[c], product[c]};
      std::fill_n(mean + group * run, run, center ? static_cast<T>(sums.t * scale) : T(0));
      std::fill_n(slope + group * run, run, static_cast<T>(sums.product * scale));
      std::fill_n(factor + group * run, run, r[group]);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < width; column += kColumns) {
      const int64_t start = row * stride + column;
      const int64_t count = std::min(kColumns, width - column);
#pragma GCC ivdep
      for (int64_t c = 0; c < count; ++c) {
        out[start + c] = factor[c] * ((t[start + c] - mean[c]) - xhat[start + c] * slope[c]);
      }
    }
  }
}

template <typename T>
struct Operands {
  const T *t, *xhat, *r;
  bool center;
  T* out;
  GroupLayout layout;
  int64_t tile;  // groups side by side that are taken together
};

// Items begin .. end of (outer index, tile of groups, probe), the probe fastest: xhat stays cached.
template <Isa isa, typename T>
POLARITY_INLINE void normalize_body(const Operands<T>& o, int64_t begin, int64_t end) {
  const GroupLayout& layout = o.layout;
  const int64_t tiles = (layout.inner + o.tile - 1) / o.tile;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t probe = item % layout.probes;
    const int64_t outer = item / layout.probes / tiles;
    const int64_t group = item / layout.probes % tiles * o.tile;
    const int64_t start = outer * layout.sample() + group * layout.run;
    const T* t = o.t + probe * layout.t_probe + start;
    T* out = o.out + probe * layout.outer * layout.sample() + start;
    const T* r = o.r + outer * layout.inner + group;
    const int64_t groups = std::min(o.tile, layout.inner - group);
    if (layout.rows > 1) {
      normalize_groups(t, o.xhat + start, r, o.center, out, layout.rows, layout.inner * layout.run,
                       layout.run, groups);
      continue;
    }
    for (int64_t i = 0; i < groups; ++i) {
      const int64_t first = i * layout.run;
      normalize_run<isa>(t + first, o.xhat + start + first, r[i], o.center, out + first,
                         layout.run);
    }
  }
}
POLARITY_ISA_VARIANTS(normalize, (const Operands<float>& o, int64_t begin, int64_t end),
                      (o, begin, end))
POLARITY_ISA_VARIANTS(normalize, (const Operands<double>& o, int64_t begin, int64_t end),
                      (o, begin, end))

}  // namespace

template <typename T>
void normalize_tangents(const T* t, const T* xhat, const T* r, bool center, T* out,
                        const GroupLayout& layout) {
  if (layout.probes * layout.outer * layout.sample() == 0) return;
  const int64_t tile =
      std::clamp<int64_t>((layout.rows > 1 ? kColumns : kTile) / layout.run, 1, layout.inner);
  const int64_t tiles = (layout.inner + tile - 1) / tile;
  const int64_t grain = std::max<int64_t>(1, kGrain / (layout.rows * tile * layout.run));
  const Operands<T> operands{t, xhat, r, center, out, layout, tile};
  parallel_for(layout.outer * tiles * layout.probes, grain,
               [&](int64_t begin, int64_t end) { normalize(operands, begin, end); });
}

template void normalize_tangents<float>(const float*, const float*, const float*, bool, float*,
                                        const GroupLayout&);
template void normalize_tangents<double>(const double*, const double*, const double*, bool, double*,
                                         const GroupLayout&);

}  // namespace polarity::cpu
