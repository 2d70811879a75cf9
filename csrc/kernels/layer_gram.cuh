#pragma once

#include "../device/reduce.cuh"
#include "layer_gram.h"

namespace polarity {

constexpr int kLayerGramBlock = 256;

// A block for each sample, a thread for some of its units: both sums over those that are not zero.
POLARITY_GLOBAL void layer_gram_size_kernel(const double* x, const double* weight,
                                            const double* factor, LayerGramShape shape,
                                            double* size) {
  const int64_t b = blockIdx.x;
  double of_x = 0.0, of_layer = 0.0;
  for (int64_t u = threadIdx.x; u < shape.units; u += kLayerGramBlock) {
    bool is_active = false;
    for (int64_t l = 0; l < shape.probes; ++l) {
      const double number = x[l * shape.x_probe + b * shape.x_batch + u];
      is_active = is_active || number != 0.0;
      of_x += number * number;
    }
    if (!is_active) continue;
    for (int64_t o = 0; o < shape.outputs; ++o) {
      const double number =
          factor[b * shape.outputs + o] * weight[o * shape.weight_output + u * shape.weight_unit];
      of_layer += number * number;
    }
  }
  of_x = device::block_sum<kLayerGramBlock>(of_x);
  of_layer = device::block_sum<kLayerGramBlock>(of_layer);
  if (threadIdx.x == 0) size[b] = of_x * of_layer;
}

}  // namespace polarity
