#include "../device/launch.cuh"
#include "jacobi_singular_values.cuh"

namespace polarity::cuda {
namespace {

template <int kThreads, int kLanes, typename T>
void launch(const T* a, const TallBatch& shape, int64_t max_sweeps, double* workspace, T* values,
            int64_t* info, void* stream) {
  const int64_t doubles = jacobi_doubles(shape);
  const int64_t shared = (doubles <= kJacobiShared ? doubles : shape.columns) + 1;
  device::launch_shared("jacobi_singular_values",
                        jacobi_singular_values_kernel<kThreads, kLanes, T>, shape.batch, kThreads,
                        static_cast<size_t>(shared) * sizeof(double), stream, a, shape, max_sweeps,
                        orthogonal_below(shape.rows), workspace, values, info);
}

}  // namespace

template <typename T>
void jacobi_singular_values(const T* a, const TallBatch& shape, int64_t max_sweeps,
                            double* workspace, T* values, int64_t* info, void* stream) {
  if (shape.batch == 0) return;
  if (shape.rows > kLargestJacobi) {  // longer columns, more lanes
    launch<512, 32>(a, shape, max_sweeps, workspace, values, info, stream);
  } else if (shape.columns <= 32) {
    launch<128, 8>(a, shape, max_sweeps, workspace, values, info, stream);
  } else if (shape.columns <= 64) {
    launch<256, 8>(a, shape, max_sweeps, workspace, values, info, stream);
  } else {
    launch<512, 8>(a, shape, max_sweeps, workspace, values, info, stream);
  }
}

template void jacobi_singular_values<float>(const float*, const TallBatch&, int64_t, double*,
                                            float*, int64_t*, void*);
template void jacobi_singular_values<double>(const double*, const TallBatch&, int64_t, double*,
                                             double*, int64_t*, void*);

}  // namespace polarity::cuda
