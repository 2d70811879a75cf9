#include "../device/launch.cuh"
#include "cholesky.cuh"

namespace polarity::cuda {

template <typename T>
void cholesky(const T* a, const SymmetricBatch& shape, double* workspace, T* l, int64_t* info,
              void* stream) {
  if (shape.batch == 0) return;
  const int64_t triangles = shape.size <= kLargestShared ? triangle(shape.size) : 0;
  const size_t shared = static_cast<size_t>(shape.size + triangles + 1) * sizeof(double);
  device::launch_shared("cholesky", cholesky_kernel<T>, shape.batch, kCholeskyBlock, shared, stream,
                        a, shape, workspace, l, info);
}

template void cholesky<float>(const float*, const SymmetricBatch&, double*, float*, int64_t*,
                              void*);
template void cholesky<double>(const double*, const SymmetricBatch&, double*, double*, int64_t*,
                               void*);

}  // namespace polarity::cuda
