#include "../kernels/winograd.h"

#include <algorithm>
#include <vector>

#include "check.h"

namespace polarity {
namespace {

using Pair = std::vector<int64_t>;  // y, x

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

struct Plan {
  Tensor x, weight, out;  // images [N, H, W, C]
  TileShape from, to;     // of x and of out; the same tiles
  int64_t full;           // phases with all taps, along an axis
};

Plan prepare(const Tensor& x_in, const Tensor& weight, int64_t kernel, int64_t stride,
             const Pair& padding, const Pair& size, bool transposed) {
  check_floating(x_in, "winograd", "x");
  check_same(x_in, "x", weight, "weight", "winograd");
  STD_TORCH_CHECK(stride >= 1, "winograd: stride must be at least 1, got ", stride);
  const int64_t taps = (kernel + stride - 1) / stride;
  STD_TORCH_CHECK(taps == 2 || taps == 3, "winograd: a kernel of ", kernel, " at stride ", stride,
                  " has ", taps, " taps to a phase; only 2 and 3 are known, use a convolution");
  STD_TORCH_CHECK(padding.size() == 2 && size.size() == 2 && size[0] >= 0 && size[1] >= 0,
                  "winograd: padding and size must be (y, x)");
  const int64_t phases = stride * stride;
  const int64_t tile = weight.dim() == 3 && weight.size(0) == 36 && taps == 3 ? 6 : 4;
  STD_TORCH_CHECK(x_in.dim() == 4 && weight.dim() == 3 && weight.size(0) == tile * tile &&
                      weight.size(1) == x_in.size(1) * (transposed ? 1 : phases) &&
                      weight.size(2) % (transposed ? phases : 1) == 0,
                  "winograd: x must be [N, C, H, W] and weight that of winograd_weight, got x ",
                  shape_of(x_in), " and weight ", shape_of(weight));
  const Tensor x = torch::stable::contiguous(
      torch::stable::transpose(torch::stable::transpose(x_in, 1, 2), 2, 3));
  const int64_t images = x.size(0), channels = x.size(3);
  const int64_t out_channels = weight.size(2) / (transposed ? phases : 1);
  const int64_t sizes[] = {images, size[0], size[1], out_channels};
  const Tensor out = torch::stable::new_empty(x, {sizes, 4});

  const int64_t step = tile + 1 - taps;
  TileAxis from[2], to[2];
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t before = x.size(1 + axis), after = size[axis], pad = padding[axis];
    // Result n of the tiles is pixel stride n + phase - pad of the large side.
    const int64_t first = transposed ? floor_div(pad, stride) : 0;
    const int64_t count = transposed ? floor_div(after - 1 + pad, stride) + 1 - first : after;
    const int64_t tiles = std::max<int64_t>(0, (count + step - 1) / step);
    from[axis] = {before, tiles, transposed ? first - (taps - 1) : -pad};
    to[axis] = {after, tiles, transposed ? stride * first - pad : 0};
  }
  const int64_t in_stride = transposed ? 1 : stride, out_stride = transposed ? stride : 1;
  return {x,
          torch::stable::contiguous(weight),
          out,
          {images, channels, tile, step, in_stride, from[0], from[1]},
          {images, out_channels, tile, step, out_stride, to[0], to[1]},
          kernel - stride * (taps - 1)};
}

Tensor channels_second(const Tensor& images) {
  return torch::stable::transpose(torch::stable::transpose(images, 1, 3), 2, 3);
}

Tensor winograd_cpu(const Tensor& x, const Tensor& weight, int64_t kernel, int64_t stride,
                    const Pair& padding, const Pair& size, bool transposed) {
  const Plan plan = prepare(x, weight, kernel, stride, padding, size, transposed);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::winograd<T>(input<T>(plan.x), input<T>(plan.weight), output<T>(plan.out), plan.from,
                     plan.to, plan.full);
  });
  return channels_second(plan.out);
}

#ifdef POLARITY_WITH_CUDA
// The products are the library's, of as many tiles at a time as a second-level cache holds.
Tensor winograd_cuda(const Tensor& x, const Tensor& weight, int64_t kernel, int64_t stride,
                     const Pair& padding, const Pair& size, bool transposed) {
  constexpr int64_t kCacheBytes = 32 << 20;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Plan plan = prepare(x, weight, kernel, stride, padding, size, transposed);
  void* const stream = current_cuda_stream(x.get_device_index());
  const int64_t depth = plan.from.depth(), total = plan.from.tiles(), places = plan.from.places();
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t bytes = places * (depth + plan.to.depth()) * static_cast<int64_t>(sizeof(T));
    const int64_t block = std::max<int64_t>(1, kCacheBytes / std::max<int64_t>(1, bytes));
    for (int64_t first = 0; first < total; first += block) {
      const int64_t count = std::min(block, total - first);
      const int64_t sizes[] = {places, count, depth};
      const Tensor tiles = torch::stable::new_empty(plan.x, {sizes, 3});
      cuda::winograd_tiles<T>(input<T>(plan.x), output<T>(tiles), plan.from, first, count, stream);
      const Tensor products = torch::stable::contiguous(torch::stable::matmul(tiles, plan.weight));
      cuda::winograd_pixels<T>(input<T>(products), output<T>(plan.out), plan.to, first, count,
                               stream);
    }
  });
  return channels_second(plan.out);
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("winograd", TORCH_BOX(&polarity::winograd_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("winograd", TORCH_BOX(&polarity::winograd_cuda));
}
#endif
