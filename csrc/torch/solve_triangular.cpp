#include "../kernels/solve_triangular.h"

#include "check.h"

namespace polarity {
namespace {

struct Prepared {
  TriangularShape shape;
  Tensor out;
};

Prepared prepare(const Tensor& y, const Tensor& r) {
  constexpr const char* kName = "solve_triangular";
  check_floating(y, kName, "y");
  STD_TORCH_CHECK(r.scalar_type() == ScalarType::Double, kName, ": r is ", r.scalar_type(),
                  "; it must be float64 (convert it with .double())");
  STD_TORCH_CHECK(y.is_cuda() == r.is_cuda() && y.get_device_index() == r.get_device_index(), kName,
                  ": y and r are on different devices; move one with .to()");
  STD_TORCH_CHECK(y.dim() == 3, kName, ": y must be [B, D, L], got ", shape_of(y));
  STD_TORCH_CHECK(
      r.dim() == 3 && r.size(0) == y.size(0) && r.size(1) == y.size(2) && r.size(2) == y.size(2),
      kName, ": r must be [B, L, L] for y ", shape_of(y), ", got ", shape_of(r));
  STD_TORCH_CHECK(y.size(2) <= kLargestTriangular, kName, ": L is ", y.size(2), ", at most ",
                  kLargestTriangular, " is possible; use torch.linalg.solve_triangular");
  return {{y.size(0), y.size(1), y.size(2), y.stride(0), y.stride(1), y.stride(2), r.stride(0),
           r.stride(1), r.stride(2)},
          torch::stable::new_empty(y, y.sizes(), ScalarType::Double)};
}

Tensor solve_triangular_cpu(const Tensor& y, const Tensor& r) {
  const Prepared p = prepare(y, r);
  for_type(y, [&](auto zero) {
    using T = decltype(zero);
    cpu::solve_triangular<T>(input<T>(y), input<double>(r), p.shape, output<double>(p.out));
  });
  return p.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor solve_triangular_cuda(const Tensor& y, const Tensor& r) {
  const torch::stable::accelerator::DeviceGuard guard(y.get_device_index());
  const Prepared p = prepare(y, r);
  for_type(y, [&](auto zero) {
    using T = decltype(zero);
    cuda::solve_triangular<T>(input<T>(y), input<double>(r), p.shape, output<double>(p.out),
                              current_cuda_stream(y.get_device_index()));
  });
  return p.out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("solve_triangular", TORCH_BOX(&polarity::solve_triangular_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("solve_triangular", TORCH_BOX(&polarity::solve_triangular_cuda));
}
#endif
