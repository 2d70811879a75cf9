// G[b] = X[b]^T A[b]^T A[b] X[b] with A[b] = diag(factor[b]) W: the Gram matrix of tangents X
// behind one more layer, all products and sums in double. Where few units of X are not zero, A^T A
// of those is cheaper than A X, which has a row for every output.
#pragma once

#include <cstdint>

namespace polarity {

struct LayerGramShape {
  int64_t probes, batch, units, outputs;
  int64_t x_probe, x_batch;            // strides of x [probes, batch, units], whose units are dense
  int64_t weight_output, weight_unit;  // of W [outputs, units]
};

// `size[b]` is |A|_F^2 |X|_F^2 over the units that are not zero: what rounding is relative to.
namespace cpu {
// factor is [batch, outputs], dense; out is [batch, probes, probes].
template <typename T>
void layer_gram(const T* x, const T* weight, const T* factor, const LayerGramShape& shape,
                double* out, double* size);
}  // namespace cpu
namespace cuda {
// The sizes alone: the layer is a product of the library, and gram follows.
void layer_gram_size(const double* x, const double* weight, const double* factor,
                     const LayerGramShape& shape, double* size, void* stream);
}  // namespace cuda
}  // namespace polarity
