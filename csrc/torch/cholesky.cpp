#include "../kernels/cholesky.h"

#include <array>
#include <tuple>

#include "check.h"

namespace polarity {
namespace {

struct Prepared {
  SymmetricBatch shape;
  Tensor l, info;
};

Prepared prepare(const Tensor& a) {
  check_floating(a, "cholesky", "a");
  STD_TORCH_CHECK(a.dim() == 3 && a.size(1) == a.size(2), "cholesky: a must be [B, n, n], got ",
                  shape_of(a));
  STD_TORCH_CHECK(a.size(1) <= kLargestCholesky, "cholesky: n is ", a.size(1), ", at most ",
                  kLargestCholesky, " is possible; use torch.linalg.cholesky_ex");
  const std::array<int64_t, 1> info{a.size(0)};
  return {{a.size(0), a.size(1), a.stride(0), a.stride(1), a.stride(2)},
          torch::stable::new_empty(a, a.sizes()),
          torch::stable::new_empty(a, {info.data(), info.size()}, ScalarType::Long)};
}

std::tuple<Tensor, Tensor> cholesky_cpu(const Tensor& a) {
  const Prepared p = prepare(a);
  for_type(a, [&](auto zero) {
    using T = decltype(zero);
    cpu::cholesky<T>(input<T>(a), p.shape, output<T>(p.l), output<int64_t>(p.info));
  });
  return {p.l, p.info};
}

#ifdef POLARITY_WITH_CUDA
std::tuple<Tensor, Tensor> cholesky_cuda(const Tensor& a) {
  const torch::stable::accelerator::DeviceGuard guard(a.get_device_index());
  const Prepared p = prepare(a);
  const std::array<int64_t, 1> count{cholesky_workspace(p.shape)};
  const Tensor workspace =
      torch::stable::new_empty(a, {count.data(), count.size()}, ScalarType::Double);
  for_type(a, [&](auto zero) {
    using T = decltype(zero);
    cuda::cholesky<T>(input<T>(a), p.shape, output<double>(workspace), output<T>(p.l),
                      output<int64_t>(p.info), current_cuda_stream(a.get_device_index()));
  });
  return {p.l, p.info};
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("cholesky", TORCH_BOX(&polarity::cholesky_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("cholesky", TORCH_BOX(&polarity::cholesky_cuda));
}
#endif
