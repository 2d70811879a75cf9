#include "../kernels/symmetric_eigenvalues.h"

#include <array>

#include "check.h"

namespace polarity {
namespace {

struct Prepared {
  SymmetricBatch shape;
  Tensor out;
};

Prepared prepare(const Tensor& a, int64_t top_k, int64_t largest) {
  constexpr const char* kName = "symmetric_eigenvalues";
  check_floating(a, kName, "a");
  STD_TORCH_CHECK(a.dim() == 3 && a.size(1) == a.size(2), kName, ": a must be [B, n, n], got ",
                  shape_of(a));
  const int64_t size = a.size(1);
  STD_TORCH_CHECK(size <= largest, kName, ": n is ", size, ", at most ", largest,
                  " is possible; use torch.linalg.eigvalsh");
  STD_TORCH_CHECK(top_k >= 0 && top_k <= size, kName, ": top_k must be in 0..n = ", size, ", got ",
                  top_k);
  const std::array<int64_t, 2> out{a.size(0), top_k};
  return {{a.size(0), size, a.stride(0), a.stride(1), a.stride(2)},
          torch::stable::new_empty(a, {out.data(), out.size()})};
}

Tensor symmetric_eigenvalues_cpu(const Tensor& a, int64_t top_k) {
  const Prepared p = prepare(a, top_k, cpu::kLargestSymmetric);
  for_type(a, [&](auto zero) {
    using T = decltype(zero);
    cpu::symmetric_eigenvalues<T>(input<T>(a), p.shape, top_k, output<T>(p.out));
  });
  return p.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor symmetric_eigenvalues_cuda(const Tensor& a, int64_t top_k) {
  const torch::stable::accelerator::DeviceGuard guard(a.get_device_index());
  const Prepared p = prepare(a, top_k, cuda::kLargestSymmetric);
  const std::array<int64_t, 1> doubles{symmetric_workspace(p.shape)};
  const Tensor workspace =
      torch::stable::new_empty(a, {doubles.data(), doubles.size()}, ScalarType::Double);
  for_type(a, [&](auto zero) {
    using T = decltype(zero);
    cuda::symmetric_eigenvalues<T>(input<T>(a), p.shape, top_k, output<double>(workspace),
                                   output<T>(p.out), current_cuda_stream(a.get_device_index()));
  });
  return p.out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("symmetric_eigenvalues", TORCH_BOX(&polarity::symmetric_eigenvalues_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("symmetric_eigenvalues", TORCH_BOX(&polarity::symmetric_eigenvalues_cuda));
}
#endif
