#include "../device/launch.cuh"
#include "layer_gram.cuh"

namespace polarity::cuda {

void layer_gram_size(const double* x, const double* weight, const double* factor,
                     const LayerGramShape& shape, double* size, void* stream) {
  if (shape.batch == 0) return;
  device::launch("layer_gram (size)", layer_gram_size_kernel, shape.batch, kLayerGramBlock, stream,
                 x, weight, factor, shape, size);
}

}  // namespace polarity::cuda
