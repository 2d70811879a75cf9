#include "../kernels/weighted_draw.h"

#include <array>
#include <tuple>

#include "check.h"

namespace polarity {
namespace {

struct Prepared {
  Tensor log_weights;
  DrawShape shape;
  Tensor rows, status;
};

Prepared prepare(const Tensor& log_weights, int64_t n, int64_t seed, int64_t offset) {
  constexpr const char* kName = "weighted_draw";
  STD_TORCH_CHECK(log_weights.scalar_type() == ScalarType::Double, kName, ": log_weights is ",
                  log_weights.scalar_type(), "; it must be float64 (convert it with .double())");
  STD_TORCH_CHECK(log_weights.dim() == 1, kName, ": log_weights must be [N], got ",
                  shape_of(log_weights));
  STD_TORCH_CHECK(n >= 0 && n <= log_weights.numel(), kName,
                  ": n must be in 0..N = ", log_weights.numel(), ", got ", n,
                  "; a row is drawn once at most");
  STD_TORCH_CHECK(seed >= 0, kName, ": seed must be >= 0, got ", seed);
  STD_TORCH_CHECK(offset >= 0, kName, ": offset must be >= 0, got ", offset);
  const std::array<int64_t, 1> rows{n}, status{2};
  return {torch::stable::contiguous(log_weights),
          {log_weights.numel(), n, static_cast<uint64_t>(seed), static_cast<uint64_t>(offset)},
          torch::stable::new_empty(log_weights, {rows.data(), rows.size()}, ScalarType::Long),
          torch::stable::new_empty(log_weights, {status.data(), status.size()}, ScalarType::Long)};
}

std::tuple<Tensor, Tensor> weighted_draw_cpu(const Tensor& log_weights, int64_t n, int64_t seed,
                                             int64_t offset) {
  const Prepared p = prepare(log_weights, n, seed, offset);
  cpu::weighted_draw(input<double>(p.log_weights), p.shape, output<int64_t>(p.rows),
                     output<DrawStatus>(p.status));
  return {p.rows, p.status};
}

#ifdef POLARITY_WITH_CUDA
std::tuple<Tensor, Tensor> weighted_draw_cuda(const Tensor& log_weights, int64_t n, int64_t seed,
                                              int64_t offset) {
  const torch::stable::accelerator::DeviceGuard guard(log_weights.get_device_index());
  const Prepared p = prepare(log_weights, n, seed, offset);
  const std::array<int64_t, 1> words{draw_workspace(p.shape)};
  const Tensor workspace =
      torch::stable::new_empty(log_weights, {words.data(), words.size()}, ScalarType::Long);
  cuda::weighted_draw(input<double>(p.log_weights), p.shape, output<uint64_t>(workspace),
                      output<int64_t>(p.rows), output<DrawStatus>(p.status),
                      current_cuda_stream(log_weights.get_device_index()));
  return {p.rows, p.status};
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("weighted_draw", TORCH_BOX(&polarity::weighted_draw_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("weighted_draw", TORCH_BOX(&polarity::weighted_draw_cuda));
}
#endif
