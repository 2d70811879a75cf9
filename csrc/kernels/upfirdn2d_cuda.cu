#include "../device/launch.cuh"
#include "upfirdn2d.cuh"

namespace polarity::cuda {

template <typename T>
void upfirdn2d(const T* x, const T* taps, T* out, const FirShape& shape, void* stream) {
  const int64_t work = shape.images * shape.channels * shape.y.out * shape.x.out;
  if (work == 0) return;
  const auto shared = static_cast<size_t>(shape.y.taps * shape.x.taps) * sizeof(T);
  device::launch_shared("upfirdn2d", upfirdn2d_kernel<T>, device::grid_for(work, kFirBlock),
                        kFirBlock, shared, stream, x, taps, out, shape);
}

template void upfirdn2d<float>(const float*, const float*, float*, const FirShape&, void*);
template void upfirdn2d<double>(const double*, const double*, double*, const FirShape&, void*);

}  // namespace polarity::cuda
