#include "../kernels/linear_tangents.h"

#include "../kernels/scale_tangents.h"
#include "check.h"

namespace polarity {
namespace {

void check(const Tensor& t, const Tensor& weight, const Tensor& d, int64_t precision) {
  check_floating(t, "linear_tangents", "t");
  check_same(t, "t", weight, "weight", "linear_tangents");
  check_same(t, "t", d, "d", "linear_tangents");
  STD_TORCH_CHECK(t.dim() == 3 && weight.dim() == 2 && weight.size(1) == t.size(2) &&
                      d.dim() == 2 && d.size(0) == t.size(1) && d.size(1) == weight.size(0),
                  "linear_tangents: t must be [L, B, in], weight [out, in] and d [B, out], got t ",
                  shape_of(t), ", weight ", shape_of(weight), " and d ", shape_of(d));
  STD_TORCH_CHECK(precision >= 0 && precision < kProductPrecisions,
                  "linear_tangents: precision must be in 0..", kProductPrecisions - 1, ", got ",
                  precision);
}

// The library's product, then its factor in place.
Tensor linear_tangents_cpu(const Tensor& t, const Tensor& weight, const Tensor& d,
                           int64_t precision) {
  check(t, weight, d, precision);
  const Tensor product = torch::stable::matmul(t, torch::stable::transpose(weight, 0, 1));
  const Tensor out = torch::stable::contiguous(product);
  const Tensor factor = torch::stable::contiguous(d);
  const int64_t batch = d.size(0), size = d.size(1);
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cpu::scale_tangents<T>(input<T>(out), input<T>(factor), output<T>(out),
                           {t.size(0), batch, size, batch * size, size, batch * size, size, size});
  });
  return out;
}

#ifdef POLARITY_WITH_CUDA
Tensor linear_tangents_cuda(const Tensor& t_in, const Tensor& weight_in, const Tensor& d_in,
                            int64_t precision) {
  const torch::stable::accelerator::DeviceGuard guard(t_in.get_device_index());
  check(t_in, weight_in, d_in, precision);
  const bool is_dense = t_in.size(2) <= 1 || t_in.stride(2) == 1;
  const Tensor t = is_dense ? t_in : torch::stable::contiguous(t_in);
  const Tensor weight = torch::stable::contiguous(weight_in), d = torch::stable::contiguous(d_in);
  const LinearShape shape{t.size(0),      t.size(1),   t.size(2),
                          weight.size(0), t.stride(0), t.stride(1)};
  const int64_t sizes[] = {shape.probes, shape.batch, shape.out};
  const Tensor out = torch::stable::new_empty(t, {sizes, 3});
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cuda::linear_tangents<T>(input<T>(t), input<T>(weight), input<T>(d), output<T>(out), shape,
                             static_cast<ProductPrecision>(precision),
                             current_cuda_stream(t.get_device_index()));
  });
  return out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("linear_tangents", TORCH_BOX(&polarity::linear_tangents_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("linear_tangents", TORCH_BOX(&polarity::linear_tangents_cuda));
}
#endif
