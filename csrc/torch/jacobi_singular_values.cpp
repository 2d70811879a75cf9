#include "../kernels/jacobi_singular_values.h"

#include <array>
#include <tuple>

#include "check.h"

namespace polarity {
namespace {

struct Prepared {
  TallBatch shape;
  Tensor values, info;
};

Prepared prepare(const Tensor& a, int64_t max_sweeps) {
  constexpr const char* kName = "jacobi_singular_values";
  check_floating(a, kName, "a");
  STD_TORCH_CHECK(a.dim() == 3 && a.size(1) >= a.size(2), kName,
                  ": a must be [B, m, n] with m >= n, got ", shape_of(a),
                  "; where m < n pass a.mT, which has the same singular values");
  STD_TORCH_CHECK(a.size(2) <= kLargestJacobi, kName, ": n is ", a.size(2), ", at most ",
                  kLargestJacobi, " is possible; use torch.linalg.svdvals");
  STD_TORCH_CHECK(max_sweeps >= 1, kName, ": max_sweeps must be >= 1, got ", max_sweeps);
  const std::array<int64_t, 2> values{a.size(0), a.size(2)};
  return {{a.size(0), a.size(1), a.size(2), a.stride(0), a.stride(1), a.stride(2)},
          torch::stable::new_empty(a, {values.data(), values.size()}),
          torch::stable::new_empty(a, {values.data(), 1}, ScalarType::Long)};
}

std::tuple<Tensor, Tensor> jacobi_singular_values_cpu(const Tensor& a, int64_t max_sweeps) {
  const Prepared p = prepare(a, max_sweeps);
  for_type(a, [&](auto zero) {
    using T = decltype(zero);
    cpu::jacobi_singular_values<T>(input<T>(a), p.shape, max_sweeps, output<T>(p.values),
                                   output<int64_t>(p.info));
  });
  return {p.values, p.info};
}

#ifdef POLARITY_WITH_CUDA
std::tuple<Tensor, Tensor> jacobi_singular_values_cuda(const Tensor& a, int64_t max_sweeps) {
  const torch::stable::accelerator::DeviceGuard guard(a.get_device_index());
  const Prepared p = prepare(a, max_sweeps);
  const std::array<int64_t, 1> count{jacobi_workspace(p.shape)};
  const Tensor workspace =
      torch::stable::new_empty(a, {count.data(), count.size()}, ScalarType::Double);
  for_type(a, [&](auto zero) {
    using T = decltype(zero);
    cuda::jacobi_singular_values<T>(input<T>(a), p.shape, max_sweeps, output<double>(workspace),
                                    output<T>(p.values), output<int64_t>(p.info),
                                    current_cuda_stream(a.get_device_index()));
  });
  return {p.values, p.info};
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("jacobi_singular_values", TORCH_BOX(&polarity::jacobi_singular_values_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("jacobi_singular_values", TORCH_BOX(&polarity::jacobi_singular_values_cuda));
}
#endif
