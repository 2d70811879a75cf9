#include "mlp_gram.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "layer_gram_sample.h"
#include "mlp_sample.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

// The last layer: its matrix, and a factor for each sample.
template <typename T>
struct LastLayer {
  const T* weight;
  const T* factor;
};

// Lists the units whose factor is not zero.
template <typename T>
POLARITY_INLINE void list_active(const T* factor, int64_t units, std::vector<int64_t>& active) {
  active.resize(static_cast<size_t>(units));
  int64_t count = 0;
  for (int64_t u = 0; u < units; ++u) {
    active[count] = u;
    count += factor[u] != T(0) ? 1 : 0;
  }
  active.resize(static_cast<size_t>(count));
}

// Rows of tangents, a column for each of `units`, to columns first .. first + rows of packed ones.
template <typename T>
POLARITY_INLINE void pack_state(const T* state, int64_t stride, int64_t first, int64_t rows,
                                const Units& units, const std::vector<int64_t>& active,
                                double* packed) {
  const auto count = static_cast<int64_t>(active.size());
  for (int64_t r = 0; r < rows; ++r, state += stride) {
    const int64_t l = first + r;
    double* const column = packed + l / kGramTile * count * kGramTile + l % kGramTile;
    for (int64_t k = 0; k < count; ++k) {
      column[k * kGramTile] = static_cast<double>(state[units.all ? active[k] : k]);
    }
  }
}

template <Isa isa, typename T>
POLARITY_INLINE void samples_body(const MlpChain<T>& chain, const T* shared,
                                  const LastLayer<T>& last, const LayerGramShape& shape,
                                  int64_t begin, int64_t end, double* out, double* size) {
  MlpWorkspace<T> hidden(chain, PanelMicro<isa>::kRows, kColumns<isa, T>);
  LayerWorkspace work;
  const int64_t together = probes_together(chain.probes);
  for (int64_t b = begin; b < end; ++b) {
    list_active(factor_of(chain, chain.layers, b), shape.units, work.active);
    double* const tangents = work.tangents.get(
        tiles_of(shape.probes) * static_cast<int64_t>(work.active.size()) * kGramTile);
    for (int64_t first = 0; first < shape.probes; first += together) {
      const int64_t rows = std::min(together, shape.probes - first);
      const int at = push<isa>(chain, shared, b, first, rows, chain.layers, hidden);
      pack_state(hidden.state[at].get(), hidden.stride, first, rows, hidden.units[at], work.active,
                 tangents);
    }
    multiply_sample<isa>(last.weight, last.factor + b * shape.outputs, shape, work,
                         out + b * shape.probes * shape.probes, size + b);
  }
}
POLARITY_ISA_VARIANTS(samples,
                      (const MlpChain<float>& chain, const float* shared,
                       const LastLayer<float>& last, const LayerGramShape& shape, int64_t begin,
                       int64_t end, double* out, double* size),
                      (chain, shared, last, shape, begin, end, out, size))
POLARITY_ISA_VARIANTS(samples,
                      (const MlpChain<double>& chain, const double* shared,
                       const LastLayer<double>& last, const LayerGramShape& shape, int64_t begin,
                       int64_t end, double* out, double* size),
                      (chain, shared, last, shape, begin, end, out, size))

}  // namespace

template <typename T>
void mlp_gram(const MlpChain<T>& chain, const T* weight, const T* factor,
              const LayerGramShape& shape, double* out, double* size) {
  std::fill_n(size, shape.batch, 0.0);
  if (shape.probes * shape.batch == 0) return;
  const std::unique_ptr<T[]> shared = shared_product(chain);
  const LastLayer<T> last{weight, factor};
  parallel_for(shape.batch, 1, [&](int64_t begin, int64_t end) {
    samples(chain, shared.get(), last, shape, begin, end, out, size);
  });
}

template void mlp_gram<float>(const MlpChain<float>&, const float*, const float*,
                              const LayerGramShape&, double*, double*);
template void mlp_gram<double>(const MlpChain<double>&, const double*, const double*,
                               const LayerGramShape&, double*, double*);

}  // namespace polarity::cpu
