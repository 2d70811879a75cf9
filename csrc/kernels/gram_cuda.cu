#include "../device/launch.cuh"
#include "gram.cuh"

namespace polarity::cuda {

template <typename T>
void gram(const T* y, const GramShape& shape, double* workspace, double* out, void* stream) {
  if (shape.batch * shape.cols == 0) return;
  const int64_t splits = gram_splits(shape, true);
  const int64_t sides = (shape.cols + kGramSide - 1) / kGramSide;
  const int64_t blocks = shape.batch * splits * sides * (sides + 1) / 2;
  // Four neighbours in one access: all of them begin at multiples of 16 bytes.
  const auto whole = [](int64_t stride) { return stride * sizeof(T) % 16 == 0; };
  const bool along_rows = shape.stride_row < shape.stride_col;
  const bool packets = (along_rows ? shape.stride_row : shape.stride_col) == 1 &&
                       whole(along_rows ? shape.stride_col : shape.stride_row) &&
                       whole(shape.stride_batch) && device::is_aligned<device::Quad<T>>(y);
  device::launch_shared("gram", gram_partial_kernel<T>, blocks, kGramBlock, kGramShared<T>, stream,
                        y, shape, splits, packets, workspace);
  constexpr int kBlock = 256;
  const int64_t outputs = shape.batch * shape.cols * shape.cols;
  device::launch("gram (reduce)", gram_reduce_kernel, device::grid_for(outputs, kBlock), kBlock,
                 stream, workspace, shape, splits, out);
}

template void gram<float>(const float*, const GramShape&, double*, double*, void*);
template void gram<double>(const double*, const GramShape&, double*, double*, void*);

}  // namespace polarity::cuda
