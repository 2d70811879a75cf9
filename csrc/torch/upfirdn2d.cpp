#include "../kernels/upfirdn2d.h"

#include <vector>

#include "check.h"
#include "fir_layout.h"

namespace polarity {
namespace {

// One entry for x and one for y; padding has two for each.
using Pair = std::vector<int64_t>;

FirAxis axis_of(const char* name, int64_t in, int64_t taps, int64_t up, int64_t down,
                const int64_t* padding) {
  STD_TORCH_CHECK(fir_room(in, taps, up, padding) >= 0, "upfirdn2d: ", in, " numbers along ", name,
                  ", times up ", up, " and padded by ", padding[0], " and ", padding[1],
                  ", are fewer than the ", taps, " taps of f; pad more");
  return fir_axis(in, taps, up, down, padding);
}

struct Operands {
  Tensor x, taps, out;
  FirShape shape;
};

Operands prepare(const Tensor& x_in, const Tensor& taps, const Pair& up, const Pair& down,
                 const Pair& padding) {
  check_floating(x_in, "upfirdn2d", "x");
  check_same(x_in, "x", taps, "f", "upfirdn2d");
  STD_TORCH_CHECK(x_in.dim() == 4 && taps.dim() == 2 && taps.numel() > 0,
                  "upfirdn2d: x must be [N, C, H, W] and f [taps of y, taps of x], got x ",
                  shape_of(x_in), " and f ", shape_of(taps));
  STD_TORCH_CHECK(up.size() == 2 && down.size() == 2 && padding.size() == 4,
                  "upfirdn2d: up and down must be (x, y) and padding (left, right, top, bottom)");
  STD_TORCH_CHECK(up[0] >= 1 && up[1] >= 1 && down[0] >= 1 && down[1] >= 1,
                  "upfirdn2d: up and down must be at least 1, got up ", up[0], ", ", up[1],
                  " and down ", down[0], ", ", down[1]);
  const bool last = is_channels_last(x_in);
  const Tensor x = last ? x_in : torch::stable::contiguous(x_in);
  const FirAxis along_y = axis_of("H", x.size(2), taps.size(0), up[1], down[1], padding.data() + 2);
  const FirAxis along_x = axis_of("W", x.size(3), taps.size(1), up[0], down[0], padding.data());
  const int64_t images = x.size(0), channels = x.size(1);
  const int64_t sizes[] = {images, last ? along_y.out : channels, last ? along_x.out : along_y.out,
                           last ? channels : along_x.out};
  Tensor out = torch::stable::new_empty(x, {sizes, 4});
  if (last) out = torch::stable::transpose(torch::stable::transpose(out, 1, 3), 2, 3);
  return {x, torch::stable::contiguous(taps), out, {images, channels, last, along_y, along_x}};
}

Tensor upfirdn2d_cpu(const Tensor& x, const Tensor& taps, const Pair& up, const Pair& down,
                     const Pair& padding) {
  const Operands ready = prepare(x, taps, up, down, padding);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::upfirdn2d<T>(input<T>(ready.x), input<T>(ready.taps), output<T>(ready.out), ready.shape);
  });
  return ready.out;
}

#ifdef POLARITY_WITH_CUDA
Tensor upfirdn2d_cuda(const Tensor& x, const Tensor& taps, const Pair& up, const Pair& down,
                      const Pair& padding) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Operands ready = prepare(x, taps, up, down, padding);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cuda::upfirdn2d<T>(input<T>(ready.x), input<T>(ready.taps), output<T>(ready.out), ready.shape,
                       current_cuda_stream(x.get_device_index()));
  });
  return ready.out;
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("upfirdn2d", TORCH_BOX(&polarity::upfirdn2d_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("upfirdn2d", TORCH_BOX(&polarity::upfirdn2d_cuda));
}
#endif
