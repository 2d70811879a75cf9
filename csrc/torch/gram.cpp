#include "../kernels/gram.h"

#include <array>

#include "check.h"

namespace polarity {
namespace {

struct Prepared {
  GramShape shape;
  Tensor workspace, out;
};

Prepared prepare(const Tensor& y, bool on_gpu) {
  check_floating(y, "gram", "y");
  STD_TORCH_CHECK(y.dim() == 3, "gram: y must be [B, D, L], got ", shape_of(y));
  const GramShape shape{y.size(0), y.size(1), y.size(2), y.stride(0), y.stride(1), y.stride(2)};
  const std::array<int64_t, 1> workspace{gram_workspace(shape, on_gpu)};
  const std::array<int64_t, 3> out{shape.batch, shape.cols, shape.cols};
  return {shape,
          torch::stable::new_empty(y, {workspace.data(), workspace.size()}, ScalarType::Double),
          torch::stable::new_empty(y, {out.data(), out.size()}, ScalarType::Double)};
}

Tensor gram_cpu(const Tensor& y) {
  const Prepared p = prepare(y, false);
  for_type(y, [&](auto zero) {
    using T = decltype(zero);
    cpu::gram<T>(input<T>(y), p.shape, output<double>(p.workspace), output<double>(p.out));
  });
  return p.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor gram_cuda(const Tensor& y) {
  const torch::stable::accelerator::DeviceGuard guard(y.get_device_index());
  const Prepared p = prepare(y, true);
  for_type(y, [&](auto zero) {
    using T = decltype(zero);
    cuda::gram<T>(input<T>(y), p.shape, output<double>(p.workspace), output<double>(p.out),
                  current_cuda_stream(y.get_device_index()));
  });
  return p.out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) { m.impl("gram", TORCH_BOX(&polarity::gram_cpu)); }
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) { m.impl("gram", TORCH_BOX(&polarity::gram_cuda)); }
#endif
