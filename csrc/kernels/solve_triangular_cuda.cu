#include "../device/launch.cuh"
#include "solve_triangular.cuh"

namespace polarity::cuda {

template <typename T>
void solve_triangular(const T* y, const double* r, const TriangularShape& shape, double* out,
                      void* stream) {
  if (shape.batch * shape.rows * shape.columns == 0) return;
  const int64_t tiles = (shape.rows + kTriangularRows - 1) / kTriangularRows;
  const size_t shared = static_cast<size_t>(shape.columns * kTriangularRows) * sizeof(double);
  device::launch_shared("solve_triangular", solve_triangular_kernel<T>, shape.batch * tiles,
                        kTriangularBlock, shared, stream, y, r, shape, tiles, out);
}

template void solve_triangular<float>(const float*, const double*, const TriangularShape&, double*,
                                      void*);
template void solve_triangular<double>(const double*, const double*, const TriangularShape&,
                                       double*, void*);

}  // namespace polarity::cuda
