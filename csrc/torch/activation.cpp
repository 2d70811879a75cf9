#include "../kernels/activation.h"

#include <tuple>

#include "check.h"

namespace polarity {
namespace {

struct Operands {
  Tensor x, y, derivative;
};

// x as it is where it is dense, in any order of dimensions, else a contiguous copy; the outputs
// are laid out like it.
Operands prepare(const Tensor& x_in, int64_t kind) {
  check_floating(x_in, "activation", "x");
  STD_TORCH_CHECK(kind >= 0 && kind < kActivations, "activation: kind must be in 0..",
                  kActivations - 1, ", got ", kind);
  const Tensor x = is_dense_from(x_in, 0) ? x_in : torch::stable::contiguous(x_in);
  return {x, torch::stable::empty_like(x), torch::stable::empty_like(x)};
}

std::tuple<Tensor, Tensor> activation_cpu(const Tensor& x_in, int64_t kind, double alpha) {
  const Operands ready = prepare(x_in, kind);
  for_type(ready.x, [&](auto zero) {
    using T = decltype(zero);
    cpu::activation<T>(static_cast<Activation>(kind), static_cast<T>(alpha), input<T>(ready.x),
                       output<T>(ready.y), output<T>(ready.derivative), ready.x.numel());
  });
  return {ready.y, ready.derivative};
}

#ifdef POLARITY_WITH_CUDA
std::tuple<Tensor, Tensor> activation_cuda(const Tensor& x_in, int64_t kind, double alpha) {
  const torch::stable::accelerator::DeviceGuard guard(x_in.get_device_index());
  const Operands ready = prepare(x_in, kind);
  for_type(ready.x, [&](auto zero) {
    using T = decltype(zero);
    cuda::activation<T>(static_cast<Activation>(kind), static_cast<T>(alpha), input<T>(ready.x),
                        output<T>(ready.y), output<T>(ready.derivative), ready.x.numel(),
                        current_cuda_stream(x_in.get_device_index()));
  });
  return {ready.y, ready.derivative};
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
