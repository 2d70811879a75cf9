#include "../kernels/gaussian.h"

#include "check.h"

namespace polarity {
namespace {

void check(const Tensor& out, int64_t seed, int64_t offset) {
  STD_TORCH_CHECK(out.scalar_type() == ScalarType::Float, "gaussian: out must be float32");
  STD_TORCH_CHECK(out.is_contiguous(), "gaussian: out must be contiguous");
  STD_TORCH_CHECK(seed >= 0, "gaussian: seed must be >= 0, got ", seed);
  STD_TORCH_CHECK(offset >= 0, "gaussian: offset must be >= 0, got ", offset);
}

void gaussian_cpu(const Tensor& out, int64_t seed, int64_t offset) {
  check(out, seed, offset);
  cpu::gaussian(static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), output<float>(out),
                out.numel());
}

#ifdef POLARITY_WITH_CUDA
void gaussian_cuda(const Tensor& out, int64_t seed, int64_t offset) {
  check(out, seed, offset);
  const torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  cuda::gaussian(static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), output<float>(out),
                 out.numel(), current_cuda_stream(out.get_device_index()));
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("gaussian_", TORCH_BOX(&polarity::gaussian_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("gaussian_", TORCH_BOX(&polarity::gaussian_cuda));
}
#endif
