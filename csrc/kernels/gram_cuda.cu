#include "../device/launch.cuh"
#include "gram.cuh"

namespace polarity::cuda {

template <typename T>
void gram(const T* y, const GramShape& shape, double* workspace, double* out, void* stream) {
  if (shape.batch * shape.cols == 0) return;
  const int64_t splits = gram_splits(shape);
  const int64_t blocks = shape.batch * splits * gram_tile_pairs(shape.cols);
  device::launch("gram", gram_partial_kernel<T>, blocks, kGramBlock, stream, y, shape, splits,
                 workspace);
  constexpr int kBlock = 256;
  const int64_t outputs = shape.batch * shape.cols * shape.cols;
  device::launch("gram (reduce)", gram_reduce_kernel, device::grid_for(outputs, kBlock), kBlock,
                 stream, workspace, shape, splits, out);
}

template void gram<float>(const float*, const GramShape&, double*, double*, void*);
template void gram<double>(const double*, const GramShape&, double*, double*, void*);

}  // namespace polarity::cuda
