#include "../kernels/gaussian_product.h"

#include <array>

#include "check.h"

namespace polarity {
namespace {

struct Prepared {
  GramShape shape;
  GaussianRows rows;
  Tensor out;
};

Prepared prepare(const Tensor& y, int64_t rows, int64_t seed, int64_t offset) {
  constexpr const char* kName = "gaussian_product";
  check_floating(y, kName, "y");
  STD_TORCH_CHECK(y.dim() == 3, kName, ": y must be [B, D, L], got ", shape_of(y));
  STD_TORCH_CHECK(rows >= 0, kName, ": rows must be >= 0, got ", rows);
  STD_TORCH_CHECK(seed >= 0, kName, ": seed must be >= 0, got ", seed);
  STD_TORCH_CHECK(offset >= 0, kName, ": offset must be >= 0, got ", offset);
  const std::array<int64_t, 3> out{y.size(0), rows, y.size(2)};
  return {{y.size(0), y.size(1), y.size(2), y.stride(0), y.stride(1), y.stride(2)},
          {static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), rows},
          torch::stable::new_empty(y, {out.data(), out.size()}, ScalarType::Double)};
}

Tensor gaussian_product_cpu(const Tensor& y, int64_t rows, int64_t seed, int64_t offset) {
  const Prepared p = prepare(y, rows, seed, offset);
  for_type(y, [&](auto zero) {
    using T = decltype(zero);
    cpu::gaussian_product<T>(input<T>(y), p.shape, p.rows, output<double>(p.out));
  });
  return p.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor gaussian_product_cuda(const Tensor& y, int64_t rows, int64_t seed, int64_t offset) {
  const torch::stable::accelerator::DeviceGuard guard(y.get_device_index());
  const Prepared p = prepare(y, rows, seed, offset);
  for_type(y, [&](auto zero) {
    using T = decltype(zero);
    cuda::gaussian_product<T>(input<T>(y), p.shape, p.rows, output<double>(p.out),
                              current_cuda_stream(y.get_device_index()));
  });
  return p.out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("gaussian_product", TORCH_BOX(&polarity::gaussian_product_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("gaussian_product", TORCH_BOX(&polarity::gaussian_product_cuda));
}
#endif
