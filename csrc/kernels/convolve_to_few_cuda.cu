#include "../device/launch.cuh"
#include "convolve_to_few.cuh"

namespace polarity::cuda {

template <typename T>
void convolve_to_few(const T* x, const T* weight, T* out, const FewShape& shape, void* stream) {
  const int64_t groups = (shape.out_channels + kFewChannels - 1) / kFewChannels;
  const int64_t columns = (shape.x.out + shape.stride - 1) / shape.stride;
  const int64_t work = shape.images * groups * shape.y.out * shape.stride * columns;
  if (work == 0) return;
  device::launch("convolve_to_few", convolve_to_few_kernel<T>, device::grid_for(work, kFewBlock),
                 kFewBlock, stream, x, weight, out, shape);
}

template void convolve_to_few<float>(const float*, const float*, float*, const FewShape&, void*);
template void convolve_to_few<double>(const double*, const double*, double*, const FewShape&,
                                      void*);

}  // namespace polarity::cuda
