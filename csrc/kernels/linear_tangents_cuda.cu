#include <type_traits>

#include "../device/launch.cuh"
#include "../device/packet.cuh"
#include "linear_tangents.cuh"

namespace polarity::cuda {
namespace {

int64_t blocks_of(const LinearShape& shape, int64_t rows, int64_t columns) {
  return (shape.probes * shape.batch + rows - 1) / rows * ((shape.out + columns - 1) / columns);
}

}  // namespace

template <typename T>
void linear_tangents(const T* t, const T* weight, const T* d, T* out, const LinearShape& shape,
                     ProductPrecision precision, void* stream) {
  if (shape.probes * shape.batch * shape.out == 0) return;
  if constexpr (std::is_same_v<T, float>) {
    // Asynchronous copies are of 16 aligned bytes; what is not aligned takes the exact kernel.
    const bool aligned = (shape.in | shape.t_probe | shape.t_batch) % 4 == 0 && shape.in > 0 &&
                         device::is_aligned<device::Quad<float>>(t, weight);
    if (precision != ProductPrecision::full && aligned) {
      auto* kernel = precision == ProductPrecision::tf32 ? linear_tensor_kernel<false>
                                                         : linear_tensor_kernel<true>;
      device::launch_shared("linear_tangents", kernel,
                            blocks_of(shape, kTensorRows, kTensorColumns), kLinearBlock,
                            kTensorShared, stream, t, weight, d, out, shape);
      return;
    }
  }
  device::launch("linear_tangents", linear_full_kernel<T>,
                 blocks_of(shape, kLinearEdge, kLinearEdge), kLinearBlock, stream, t, weight, d,
                 out, shape);
}

template void linear_tangents<float>(const float*, const float*, const float*, float*,
                                     const LinearShape&, ProductPrecision, void*);
template void linear_tangents<double>(const double*, const double*, const double*, double*,
                                      const LinearShape&, ProductPrecision, void*);

}  // namespace polarity::cuda
