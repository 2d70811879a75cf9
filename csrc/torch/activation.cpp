#include "../kernels/activation.h"

#include <tuple>

#include "check.h"

namespace polarity {
namespace {

void check(const Tensor& x, int64_t kind) {
  check_floating(x, "activation", "x");
  STD_TORCH_CHECK(kind >= 0 && kind < kActivations, "activation: kind must be in 0..",
                  kActivations - 1, ", got ", kind);
}

std::tuple<Tensor, Tensor> activation_cpu(const Tensor& x_in, int64_t kind, double alpha) {
  check(x_in, kind);
  const Tensor x = torch::stable::contiguous(x_in);
  const Tensor y = torch::stable::new_empty(x, x.sizes());
  const Tensor derivative = torch::stable::new_empty(x, x.sizes());
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::activation<T>(static_cast<Activation>(kind), static_cast<T>(alpha), input<T>(x),
                       output<T>(y), output<T>(derivative), x.numel());
  });
  return {y, derivative};
}

#ifdef POLARITY_WITH_CUDA
std::tuple<Tensor, Tensor> activation_cuda(const Tensor& x_in, int64_t kind, double alpha) {
  check(x_in, kind);
  const torch::stable::accelerator::DeviceGuard guard(x_in.get_device_index());
  const Tensor x = torch::stable::contiguous(x_in);
  const Tensor y = torch::stable::new_empty(x, x.sizes());
  const Tensor derivative = torch::stable::new_empty(x, x.sizes());
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cuda::activation<T>(static_cast<Activation>(kind), static_cast<T>(alpha), input<T>(x),
                        output<T>(y), output<T>(derivative), x.numel(),
                        current_cuda_stream(x.get_device_index()));
  });
  return {y, derivative};
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("activation", TORCH_BOX(&polarity::activation_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("activation", TORCH_BOX(&polarity::activation_cuda));
}
#endif
