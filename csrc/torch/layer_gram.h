// layer_gram on CUDA, of which mlp_gram is made, too.
#pragma once

#include <tuple>

#include "check.h"

namespace polarity {

#ifdef POLARITY_WITH_CUDA
std::tuple<Tensor, Tensor> layer_gram_cuda(const Tensor& x, const Tensor& weight,
                                           const Tensor& factor);
#endif

}  // namespace polarity
