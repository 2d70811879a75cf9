#include "../kernels/convolve_to_few.h"

#include <optional>
#include <vector>

#include "check.h"
#include "convolutions.h"
#include "fir_layout.h"

namespace polarity {
namespace {

struct Operands {
  Tensor x, weight, out;
  FewShape shape;
};

Operands prepare(const Tensor& x_in, const Tensor& weight, int64_t stride, const Pair& padding,
                 const Pair& size) {
  check_floating(x_in, "convolve_to_few", "x");
  check_same(x_in, "x", weight, "weight", "convolve_to_few");
  const int64_t leading = x_in.dim() - 3;
  STD_TORCH_CHECK(leading >= 1 && weight.dim() == 4 && weight.size(0) == x_in.size(leading) &&
                      weight.size(2) * weight.size(3) > 0,
                  "convolve_to_few: x must be [*, N, C, H, W] and weight [C, O, k, l], got x ",
                  shape_of(x_in), " and weight ", shape_of(weight));
  STD_TORCH_CHECK(stride >= 1, "convolve_to_few: stride must be at least 1, got ", stride);
  STD_TORCH_CHECK(padding.size() == 2 && size.size() == 2,
                  "convolve_to_few: padding and size must be (y, x)");
  for (int axis = 0; axis < 2; ++axis) {
    STD_TORCH_CHECK(padding[axis] >= 0 && size[axis] >= 0,
                    "convolve_to_few: padding and size must not be negative, got padding ",
                    padding[axis], " and size ", size[axis]);
  }
  const bool last = is_channels_last(x_in);
  const Tensor x = last ? x_in : dense(x_in);
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().begin() + leading);
  int64_t images = 1;
  for (const int64_t count : sizes) images *= count;
  sizes.insert(sizes.end(), {weight.size(1), size[0], size[1]});
  return {x,
          dense(weight),
          torch::stable::new_empty(x, sizes),
          {images,
           x.size(leading),
           weight.size(1),
           stride,
           last,
           {x.size(leading + 1), size[0], weight.size(2), padding[0]},
           {x.size(leading + 2), size[1], weight.size(3), padding[1]}}};
}

// The factor of all samples [B, O, H', W'], of results [*, B, O, H', W'].
std::optional<Tensor> factor_of(const Operands& ready, const std::optional<Tensor>& factor) {
  if (!factor.has_value()) return factor;
  const Tensor& out = ready.out;
  check_same(ready.x, "x", *factor, "factor", "convolve_to_few");
  bool matches = factor->dim() == 4;
  for (int64_t i = 1; matches && i <= 4; ++i) matches = factor->size(-i) == out.size(-i);
  STD_TORCH_CHECK(matches,
                  "convolve_to_few: factor must be [B, O, H', W'], as the result [*, B, O,",
                  " H', W'] ", shape_of(out), " is, got ", shape_of(*factor));
  return dense(*factor);
}

}  // namespace

Tensor convolve_to_few_cpu(const Tensor& x, const Tensor& weight, int64_t stride,
                           const Pair& padding, const Pair& size,
                           const std::optional<Tensor>& factor_in) {
  const Operands ready = prepare(x, weight, stride, padding, size);
  const std::optional<Tensor> factor = factor_of(ready, factor_in);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::convolve_to_few<T>(input<T>(ready.x), input<T>(ready.weight), output<T>(ready.out),
                            ready.shape,
                            {factor.has_value() ? input<T>(*factor) : nullptr, ready.out.size(-4)});
  });
  return ready.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor convolve_to_few_cuda(const Tensor& x, const Tensor& weight, int64_t stride,
                            const Pair& padding, const Pair& size,
                            const std::optional<Tensor>& factor_in) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Operands ready = prepare(x, weight, stride, padding, size);
  const std::optional<Tensor> factor = factor_of(ready, factor_in);
  void* const stream = current_cuda_stream(x.get_device_index());
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cuda::convolve_to_few<T>(
        input<T>(ready.x), input<T>(ready.weight), output<T>(ready.out), ready.shape,
        {factor.has_value() ? input<T>(*factor) : nullptr, ready.out.size(-4)}, stream);
  });
  return ready.out;
}
#endif

}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("convolve_to_few", TORCH_BOX(&polarity::convolve_to_few_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("convolve_to_few", TORCH_BOX(&polarity::convolve_to_few_cuda));
}
#endif
