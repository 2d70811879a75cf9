#include "../kernels/floored_log_sum.h"

#include <array>
#include <tuple>

#include "check.h"

namespace polarity {
namespace {

using Sums = std::tuple<Tensor, Tensor, Tensor>;

struct Prepared {
  LogSumShape shape;
  Tensor floor, eta, value, error, rank;

  Sums outputs() const { return {value, error, rank}; }
};

Prepared prepare(const Tensor& sigma, const Tensor& floor, const Tensor& eta, const Tensor& delta,
                 int64_t top_k) {
  constexpr const char* kName = "floored_log_sum";
  STD_TORCH_CHECK(sigma.scalar_type() == ScalarType::Double, kName, ": sigma is ",
                  sigma.scalar_type(), "; it must be float64");
  STD_TORCH_CHECK(sigma.dim() == 2, kName, ": sigma must be [B, n], got ", shape_of(sigma));
  const int64_t batch = sigma.size(0), count = sigma.size(1);
  check_same(sigma, "sigma", floor, "floor", kName);
  check_same(sigma, "sigma", eta, "eta", kName);
  check_same(sigma, "sigma", delta, "delta", kName);
  STD_TORCH_CHECK(
      floor.dim() == 1 && floor.size(0) == batch && eta.dim() == 1 && eta.size(0) == batch, kName,
      ": floor and eta must be [B] = [", batch, "], got ", shape_of(floor), " and ", shape_of(eta));
  STD_TORCH_CHECK(delta.dim() == 2 && delta.size(0) == batch && delta.size(1) == count, kName,
                  ": delta must be [B, n] as sigma is, ", shape_of(sigma), ", got ",
                  shape_of(delta), " (expand it)");
  STD_TORCH_CHECK(top_k >= 0 && top_k <= count, kName, ": top_k must be in 0..n = ", count,
                  ", got ", top_k);
  const std::array<int64_t, 1> one{batch};
  const auto make = [&](ScalarType type) {
    return torch::stable::new_empty(sigma, {one.data(), one.size()}, type);
  };
  return {{batch, count, top_k, sigma.stride(0), sigma.stride(1), delta.stride(0), delta.stride(1)},
          dense(floor),
          dense(eta),
          make(ScalarType::Double),
          make(ScalarType::Double),
          make(ScalarType::Long)};
}

Sums floored_log_sum_cpu(const Tensor& sigma, const Tensor& floor, const Tensor& eta,
                         const Tensor& delta, int64_t top_k) {
  const Prepared p = prepare(sigma, floor, eta, delta, top_k);
  cpu::floored_log_sum(input<double>(sigma), input<double>(p.floor), input<double>(p.eta),
                       input<double>(delta), p.shape, output<double>(p.value),
                       output<double>(p.error), output<int64_t>(p.rank));
  return p.outputs();
}

#ifdef POLARITY_WITH_CUDA
Sums floored_log_sum_cuda(const Tensor& sigma, const Tensor& floor, const Tensor& eta,
                          const Tensor& delta, int64_t top_k) {
  const torch::stable::accelerator::DeviceGuard guard(sigma.get_device_index());
  const Prepared p = prepare(sigma, floor, eta, delta, top_k);
  cuda::floored_log_sum(input<double>(sigma), input<double>(p.floor), input<double>(p.eta),
                        input<double>(delta), p.shape, output<double>(p.value),
                        output<double>(p.error), output<int64_t>(p.rank),
                        current_cuda_stream(sigma.get_device_index()));
  return p.outputs();
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("floored_log_sum", TORCH_BOX(&polarity::floored_log_sum_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("floored_log_sum", TORCH_BOX(&polarity::floored_log_sum_cuda));
}
#endif
