#include "mlp_tangents.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "mlp_sample.h"
#include "parallel.h"
#include "prefetch.h"

namespace polarity::cpu {
namespace {

// out[r][units[k]] = state[r][k], and zero elsewhere. Rows of `out` lie far apart in memory, which
// is asked for one row ahead.
template <typename T>
POLARITY_INLINE void expand(const T* state, int64_t state_stride, int64_t rows, const Units& units,
                            int64_t width, T* out, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r, state += state_stride, out += stride) {
    if (r + 1 < rows) prefetch(out + stride, width);
    std::fill_n(out, width, T(0));
    for (int64_t k = 0; k < units.count; ++k) out[units.index[k]] = state[k];
  }
}

// Probes first .. first + rows of sample b.
template <Isa isa, typename T>
POLARITY_INLINE void sample(const MlpChain<T>& chain, const T* shared, int64_t b, int64_t first,
                            int64_t rows, MlpWorkspace<T>& work) {
  const int last = chain.layers - 1;
  const int64_t width = chain.width[last + 1], stride = chain.batch * width;
  T* const out = chain.out + (first * chain.batch + b) * width;
  const int from = push<isa>(chain, shared, b, first, rows, last, work);
  const T* const factor = factor_of(chain, last + 1, b);
  Units& outputs = work.units[1 - from];
  outputs.select(factor, width);
  if (outputs.all) {
    layer<isa>(chain.matrix[last], width, factor, work.state[from].get(), rows, work.units[from],
               outputs, work, out, stride, true);
  } else {
    step<isa>(chain, last, b, rows, from, work);
    expand(work.state[1 - from].get(), work.stride, rows, outputs, width, out, stride);
  }
}

// Items begin .. end of (tile of probes, sample).
template <Isa isa, typename T>
POLARITY_INLINE void samples_body(const MlpChain<T>& chain, const T* shared, int64_t begin,
                                  int64_t end) {
  MlpWorkspace<T> work(chain, PanelMicro<isa>::kRows, kColumns<isa, T>);
  const int64_t together = probes_together(chain.probes);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item / chain.batch * together;
    sample<isa>(chain, shared, item % chain.batch, first, std::min(together, chain.probes - first),
                work);
  }
}
POLARITY_ISA_VARIANTS(samples,
                      (const MlpChain<float>& chain, const float* shared, int64_t begin,
                       int64_t end),
                      (chain, shared, begin, end))
POLARITY_ISA_VARIANTS(samples,
                      (const MlpChain<double>& chain, const double* shared, int64_t begin,
                       int64_t end),
                      (chain, shared, begin, end))

// Whether the product with the first matrix serves all samples.
template <typename T>
bool shares_first_layer(const MlpChain<T>& chain) {
  return chain.v_batch == 0 && chain.batch > 1 && chain.factor[0] == nullptr && chain.layers > 1;
}

template <typename T>
void run(const MlpChain<T>& chain, const T* shared) {
  parallel_for(parts(chain.probes) * chain.batch, 1,
               [&](int64_t begin, int64_t end) { samples(chain, shared, begin, end); });
}

}  // namespace

template <typename T>
double mlp_tangents_share(const MlpChain<T>& chain) {
  constexpr double kGather = 8.0;  // multiplications that pay for one gathered number of a matrix
  const int first = shares_first_layer(chain) ? 1 : 0;
  const double probes = static_cast<double>(chain.probes);
  double work = 0.0, dense = 0.0;
  std::vector<double> active(static_cast<size_t>(chain.layers + 1));
  for (int64_t b = 0; b < chain.batch; ++b) {
    for (int i = first; i <= chain.layers; ++i) {
      const T* factor = chain.factor[i];
      const int64_t width = chain.width[i];
      active[i] = static_cast<double>(
          factor ? width - std::count(factor + b * width, factor + (b + 1) * width, T(0)) : width);
    }
    for (int i = first; i < chain.layers; ++i) {
      work += active[i] * active[i + 1] * (probes + kGather);
      dense += static_cast<double>(chain.width[i] * chain.width[i + 1]) * probes;
    }
  }
  return dense > 0.0 ? work / dense : 0.0;
}

template <typename T>
std::unique_ptr<T[]> shared_product(const MlpChain<T>& chain) {
  if (!shares_first_layer(chain)) return nullptr;
  MlpChain<T> front = chain;
  front.layers = 1;
  front.batch = 1;
  front.factor[1] = nullptr;
  std::unique_ptr<T[]> product(new T[chain.probes * chain.width[1]]);
  front.out = product.get();
  run<T>(front, nullptr);
  return product;
}

template <typename T>
void mlp_tangents(const MlpChain<T>& chain) {
  if (chain.probes * chain.batch * chain.width[chain.layers] == 0) return;
  run<T>(chain, shared_product(chain).get());
}

template std::unique_ptr<float[]> shared_product<float>(const MlpChain<float>&);
template std::unique_ptr<double[]> shared_product<double>(const MlpChain<double>&);
template double mlp_tangents_share<float>(const MlpChain<float>&);
template double mlp_tangents_share<double>(const MlpChain<double>&);
template void mlp_tangents<float>(const MlpChain<float>&);
template void mlp_tangents<double>(const MlpChain<double>&);

}  // namespace polarity::cpu
