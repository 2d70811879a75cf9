#include "scale_tangents.h"

#include <algorithm>

#include "cpu_isa.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

// Factors handled at a time: they stay in the second-level cache while the probes go by, each probe
// one long run of memory.
constexpr int64_t kPiece = 1 << 15;

template <Isa isa, typename T>
POLARITY_INLINE void multiply(const T* t, const T* d, T* out, int64_t count) {
#pragma GCC ivdep  // out may be t itself, never a shifted copy of it
  for (int64_t i = 0; i < count; ++i) {
    out[i] = t[i] * d[i];
  }
}

template <Isa isa>
POLARITY_INLINE void multiply_float_body(const float* t, const float* d, float* out, int64_t n) {
  multiply<isa>(t, d, out, n);
}
template <Isa isa>
POLARITY_INLINE void multiply_double_body(const double* t, const double* d, double* out,
                                          int64_t n) {
  multiply<isa>(t, d, out, n);
}
POLARITY_ISA_VARIANTS(multiply_float, (const float* t, const float* d, float* out, int64_t n),
                      (t, d, out, n))
POLARITY_ISA_VARIANTS(multiply_double, (const double* t, const double* d, double* out, int64_t n),
                      (t, d, out, n))

void run(const float* t, const float* d, float* out, int64_t n) { multiply_float(t, d, out, n); }
void run(const double* t, const double* d, double* out, int64_t n) {
  multiply_double(t, d, out, n);
}

}  // namespace

template <typename T>
void scale_tangents(const T* t, const T* d, T* out, const TangentLayout& given) {
  if (given.probes * given.batch * given.size == 0) return;
  TangentLayout layout = given;
  if (layout.t_batch == layout.size && layout.out_batch == layout.size &&
      layout.d_batch == layout.size) {  // samples follow one another: one long sample
    layout.size *= layout.batch;
    layout.batch = 1;
  }
  const int64_t pieces = (layout.size + kPiece - 1) / kPiece;
  const int64_t grain = std::max<int64_t>(1, kPiece / layout.size);
  parallel_for(layout.batch * pieces * layout.probes, grain, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t block = item / layout.probes;
      const int64_t l = item - block * layout.probes;
      const int64_t b = block / pieces;
      const int64_t first = (block - b * pieces) * kPiece;
      run(t + l * layout.t_probe + b * layout.t_batch + first, d + b * layout.d_batch + first,
          out + l * layout.out_probe + b * layout.out_batch + first,
          std::min(kPiece, layout.size - first));
    }
  });
}

template void scale_tangents<float>(const float*, const float*, float*, const TangentLayout&);
template void scale_tangents<double>(const double*, const double*, double*, const TangentLayout&);

}  // namespace polarity::cpu
