#include "../kernels/normalize_tangents.h"

#include "check.h"
#include "group_layout.h"

namespace polarity {
namespace {

constexpr const char* kName = "normalize_tangents";

void check(const Tensor& t, const Tensor& xhat, const Tensor& r) {
  check_floating(t, kName, "t");
  check_same(t, "t", xhat, "xhat", kName);
  check_same(t, "t", r, "r", kName);
  bool match = t.dim() == xhat.dim() + 1 && r.dim() == xhat.dim();
  for (int64_t i = 0; match && i < xhat.dim(); ++i) {
    match = t.size(i + 1) == xhat.size(i) && (r.size(i) == xhat.size(i) || r.size(i) == 1);
  }
  STD_TORCH_CHECK(match,
                  "normalize_tangents: t must be [L, *], xhat [*] and r [*] with size 1 where a"
                  " group extends, got t ",
                  shape_of(t), ", xhat ", shape_of(xhat), " and r ", shape_of(r));
}

struct Operands {
  Tensor t, xhat, r, out;
  GroupLayout layout;
};

// The arguments as they are where their order in memory allows it, else contiguous copies.
Operands prepare(const Tensor& t, const Tensor& xhat, const Tensor& r) {
  check(t, xhat, r);
  if (t.numel() == 0) return {t, xhat, r, torch::stable::new_empty(t, t.sizes()), {}};
  if (const auto layout = find_layout(t, xhat, r)) {
    const Tensor out = torch::stable::empty_like(t);
    if (same_order(t, 1, out, 1)) return {t, xhat, r, out, *layout};
  }
  const Operands copies{torch::stable::contiguous(t),
                        torch::stable::contiguous(xhat),
                        torch::stable::contiguous(r),
                        torch::stable::new_empty(t, t.sizes()),
                        {}};
  const auto layout = find_layout(copies.t, copies.xhat, copies.r);
  STD_TORCH_CHECK(layout.has_value(), "normalize_tangents: r of shape ", shape_of(r),
                  " has size 1, beside xhat ", shape_of(xhat),
                  ", in more than two separate runs of dimensions; permute them together");
  return {copies.t, copies.xhat, copies.r, copies.out, *layout};
}

Tensor normalize_tangents_cpu(const Tensor& t, const Tensor& xhat, const Tensor& r, bool center) {
  const Operands ready = prepare(t, xhat, r);
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cpu::normalize_tangents<T>(input<T>(ready.t), input<T>(ready.xhat), input<T>(ready.r), center,
                               output<T>(ready.out), ready.layout);
  });
  return ready.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor normalize_tangents_cuda(const Tensor& t, const Tensor& xhat, const Tensor& r, bool center) {
  const torch::stable::accelerator::DeviceGuard guard(t.get_device_index());
  const Operands ready = prepare(t, xhat, r);
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cuda::normalize_tangents<T>(input<T>(ready.t), input<T>(ready.xhat), input<T>(ready.r), center,
                                output<T>(ready.out), ready.layout,
                                current_cuda_stream(t.get_device_index()));
  });
  return ready.out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("normalize_tangents", TORCH_BOX(&polarity::normalize_tangents_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("normalize_tangents", TORCH_BOX(&polarity::normalize_tangents_cuda));
}
#endif
