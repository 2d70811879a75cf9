#include "../kernels/softmax_tangents.h"

#include "check.h"

namespace polarity {
namespace {

struct Operands {
  Tensor t, y, out;
  RowLayout layout;
};

// The arguments as they are where their samples are contiguous, else copies.
Operands prepare(const Tensor& t_in, const Tensor& y_in) {
  check_floating(t_in, "softmax_tangents", "t");
  check_same(t_in, "t", y_in, "y", "softmax_tangents");
  bool match = y_in.dim() >= 1 && t_in.dim() == y_in.dim() + 1;
  for (int64_t i = 0; match && i < y_in.dim(); ++i) match = t_in.size(i + 1) == y_in.size(i);
  STD_TORCH_CHECK(match, "softmax_tangents: t must be [L, *, N] and y [*, N], got t ",
                  shape_of(t_in), " and y ", shape_of(y_in));
  const Tensor t = is_contiguous_from(t_in, 1) ? t_in : torch::stable::contiguous(t_in);
  const Tensor y = torch::stable::contiguous(y_in);
  const int64_t size = y.size(y.dim() - 1);
  const int64_t rows = size ? y.numel() / size : 0;
  return {t, y, torch::stable::new_empty(t, t.sizes()), {t.size(0), rows, size, t.stride(0)}};
}

Tensor softmax_tangents_cpu(const Tensor& t, const Tensor& y) {
  const Operands ready = prepare(t, y);
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cpu::softmax_tangents<T>(input<T>(ready.t), input<T>(ready.y), output<T>(ready.out),
                             ready.layout);
  });
  return ready.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor softmax_tangents_cuda(const Tensor& t, const Tensor& y) {
  const torch::stable::accelerator::DeviceGuard guard(t.get_device_index());
  const Operands ready = prepare(t, y);
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cuda::softmax_tangents<T>(input<T>(ready.t), input<T>(ready.y), output<T>(ready.out),
                              ready.layout, current_cuda_stream(t.get_device_index()));
  });
  return ready.out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("softmax_tangents", TORCH_BOX(&polarity::softmax_tangents_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("softmax_tangents", TORCH_BOX(&polarity::softmax_tangents_cuda));
}
#endif
