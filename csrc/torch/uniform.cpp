#include "../kernels/uniform.h"

#include "check.h"

namespace polarity {
namespace {

void check(const Tensor& out, int64_t seed, int64_t offset) {
  check_floating(out, "uniform", "out");
  STD_TORCH_CHECK(out.is_contiguous(), "uniform: out must be contiguous");
  STD_TORCH_CHECK(seed >= 0, "uniform: seed must be >= 0, got ", seed);
  STD_TORCH_CHECK(offset >= 0, "uniform: offset must be >= 0, got ", offset);
}

void uniform_cpu(const Tensor& out, int64_t seed, int64_t offset) {
  check(out, seed, offset);
  for_type(out, [&](auto zero) {
    using T = decltype(zero);
    cpu::uniform<T>(static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), output<T>(out),
                    out.numel());
  });
}

#ifdef POLARITY_WITH_CUDA
void uniform_cuda(const Tensor& out, int64_t seed, int64_t offset) {
  check(out, seed, offset);
  const torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  for_type(out, [&](auto zero) {
    using T = decltype(zero);
    cuda::uniform<T>(static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), output<T>(out),
                     out.numel(), current_cuda_stream(out.get_device_index()));
  });
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("uniform_", TORCH_BOX(&polarity::uniform_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("uniform_", TORCH_BOX(&polarity::uniform_cuda));
}
#endif
