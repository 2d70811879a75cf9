// Tangents of a whole multilayer perceptron, or cotangents:
//   out[l, b] = F_n[b] M_n^T ... F_1[b] M_1^T F_0[b] v[l, b]
// with matrices that the samples share and diagonal factors of each sample (the derivatives of its
// activations). Where a factor is exactly zero, as behind a ReLU, nothing is computed: the row of
// one matrix and the column of the next one drop out.
#pragma once

#include <cstdint>
#include <memory>

namespace polarity {

constexpr int kMlpLayers = 8;

template <typename T>
struct MlpChain {
  int layers;
  int64_t probes, batch;
  int64_t width[kMlpLayers + 1];
  const T* v;  // [probes, batch, width[0]]; v_batch = 0: one v for all samples
  int64_t v_probe, v_batch, v_unit;  // its strides; CUDA expects v_unit = 1
  const T* matrix[kMlpLayers];       // layer i is [width[i], width[i + 1]], dense: a row per input
  const T* factor[kMlpLayers + 1];   // [batch, width[i]], dense, or null where there is none
  T* out;                            // [probes, batch, width[layers]], dense
};

namespace cpu {
// The part of the dense work that is left when zeros are dropped, the dropping included.
template <typename T>
double mlp_tangents_share(const MlpChain<T>& chain);
template <typename T>
void mlp_tangents(const MlpChain<T>& chain);
// M_1^T v [probes, width[1]], where one serves all samples, else null.
template <typename T>
std::unique_ptr<T[]> shared_product(const MlpChain<T>& chain);
}  // namespace cpu
namespace cuda {
// Whether the hidden layers of a few probes fit into shared memory.
template <typename T>
bool mlp_tangents_fits(const MlpChain<T>& chain);
template <typename T>
void mlp_tangents(const MlpChain<T>& chain, void* stream);
}  // namespace cuda
}  // namespace polarity
