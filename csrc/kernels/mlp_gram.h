// The Gram matrix of a perceptron's tangents, G[b] = X[b]^T A[b]^T A[b] X[b] with the last layer
// A[b] = diag(factor[b]) W and the tangents X of mlp_tangents before it: of one sample after the
// other, so that no more than one sample's tangents are kept, and those of active units alone.
#pragma once

#include "layer_gram.h"
#include "mlp_tangents.h"

namespace polarity::cpu {

// `chain` is all but the last layer, its `out` unused, as are the strides of x in `shape`. Of a
// unit the factor says whether it is active. weight and factor as of layer_gram, out and size, too.
template <typename T>
void mlp_gram(const MlpChain<T>& chain, const T* weight, const T* factor,
              const LayerGramShape& shape, double* out, double* size);

}  // namespace polarity::cpu
