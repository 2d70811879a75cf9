// Compiled with -fmad=false: the bits of Omega must be those of gaussian.
#include "../device/launch.cuh"
#include "gaussian_product.cuh"
#include "gaussian_product.h"

namespace polarity::cuda {

template <typename T>
void gaussian_product(const T* y, const GramShape& shape, const GaussianRows& rows, double* out,
                      void* stream) {
  if (shape.batch * shape.cols * rows.count == 0) return;
  const int64_t row_tiles = (rows.count + kProductRows - 1) / kProductRows;
  const int64_t column_tiles = (shape.cols + kProductColumns - 1) / kProductColumns;
  device::launch("gaussian_product", gaussian_product_kernel<T>,
                 shape.batch * row_tiles * column_tiles, kProductBlock, stream, y, shape, rows,
                 out);
}

template void gaussian_product<float>(const float*, const GramShape&, const GaussianRows&, double*,
                                      void*);
template void gaussian_product<double>(const double*, const GramShape&, const GaussianRows&,
                                       double*, void*);

}  // namespace polarity::cuda
