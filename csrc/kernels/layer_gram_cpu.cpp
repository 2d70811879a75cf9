#include "layer_gram.h"

#include <algorithm>
#include <vector>

#include "layer_gram_sample.h"
#include "parallel.h"
#include "prefetch.h"

namespace polarity::cpu {
namespace {

// The tangents of the units that are not zero for all probes, in order. The probes of a sample lie
// far apart in memory and are read once, each asked for one ahead: the first one says which units
// are active, and where another one says more, all are read again.
template <typename T>
POLARITY_INLINE void pack_tangents(const T* x, const LayerGramShape& shape, std::vector<T>& marks,
                                   LayerWorkspace& work) {
  marks.assign(static_cast<size_t>(shape.units), T(0));
  T* const is_active = marks.data();  // one where a unit is, else zero
  const auto mark = [&](const T* row) __attribute__((always_inline)) {
    for (int64_t u = 0; u < shape.units; ++u) is_active[u] = row[u] != T(0) ? T(1) : is_active[u];
  };
  if (shape.probes > 0) mark(x);
  int64_t count = 0;
  for (bool is_complete = false; !is_complete;) {
    work.active.resize(static_cast<size_t>(shape.units));
    count = 0;
    for (int64_t u = 0; u < shape.units; ++u) {
      work.active[count] = u;
      count += is_active[u] != T(0) ? 1 : 0;
    }
    work.active.resize(static_cast<size_t>(count));
    const int64_t* const active = work.active.data();
    double* const packed = work.tangents.get(tiles_of(shape.probes) * count * kGramTile);
    for (int64_t l = 0; l < shape.probes; ++l) {
      const T* const row = x + l * shape.x_probe;
      if (l + 1 < shape.probes) prefetch(row + shape.x_probe, shape.units);
      mark(row);
      double* const column = packed + l / kGramTile * count * kGramTile + l % kGramTile;
      for (int64_t k = 0; k < count; ++k) {
        column[k * kGramTile] = static_cast<double>(row[active[k]]);
      }
    }
    is_complete = std::count(is_active, is_active + shape.units, T(1)) == count;
  }
}

template <Isa isa, typename T>
POLARITY_INLINE void samples(const T* x, const T* weight, const T* factor,
                             const LayerGramShape& shape, int64_t begin, int64_t end, double* out,
                             double* size) {
  LayerWorkspace work;
  std::vector<T> marks;
  for (int64_t b = begin; b < end; ++b) {
    pack_tangents(x + b * shape.x_batch, shape, marks, work);
    multiply_sample<isa>(weight, factor + b * shape.outputs, shape, work,
                         out + b * shape.probes * shape.probes, size + b);
  }
}

template <Isa isa>
POLARITY_INLINE void samples_float_body(const float* x, const float* weight, const float* factor,
                                        const LayerGramShape& shape, int64_t begin, int64_t end,
                                        double* out, double* size) {
  samples<isa>(x, weight, factor, shape, begin, end, out, size);
}
template <Isa isa>
POLARITY_INLINE void samples_double_body(const double* x, const double* weight,
                                         const double* factor, const LayerGramShape& shape,
                                         int64_t begin, int64_t end, double* out, double* size) {
  samples<isa>(x, weight, factor, shape, begin, end, out, size);
}
POLARITY_ISA_VARIANTS(samples_float,
                      (const float* x, const float* weight, const float* factor,
                       const LayerGramShape& shape, int64_t begin, int64_t end, double* out,
                       double* size),
                      (x, weight, factor, shape, begin, end, out, size))
POLARITY_ISA_VARIANTS(samples_double,
                      (const double* x, const double* weight, const double* factor,
                       const LayerGramShape& shape, int64_t begin, int64_t end, double* out,
                       double* size),
                      (x, weight, factor, shape, begin, end, out, size))

void run(const float* x, const float* weight, const float* factor, const LayerGramShape& shape,
         int64_t begin, int64_t end, double* out, double* size) {
  samples_float(x, weight, factor, shape, begin, end, out, size);
}
void run(const double* x, const double* weight, const double* factor, const LayerGramShape& shape,
         int64_t begin, int64_t end, double* out, double* size) {
  samples_double(x, weight, factor, shape, begin, end, out, size);
}

}  // namespace

template <typename T>
void layer_gram(const T* x, const T* weight, const T* factor, const LayerGramShape& shape,
                double* out, double* size) {
  parallel_for(shape.batch, 1, [&](int64_t begin, int64_t end) {
    run(x, weight, factor, shape, begin, end, out, size);
  });
}

template void layer_gram<float>(const float*, const float*, const float*, const LayerGramShape&,
                                double*, double*);
template void layer_gram<double>(const double*, const double*, const double*, const LayerGramShape&,
                                 double*, double*);

}  // namespace polarity::cpu
