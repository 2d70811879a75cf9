#include "../kernels/winograd.h"

#include <algorithm>
#include <vector>

#include "check.h"

namespace polarity {
namespace {

using Pair = std::vector<int64_t>;  // y, x

struct Plan {
  Tensor x, weight, out;  // images [N, H, W, C]
  TileShape from, to;     // of x and of out; the same tiles
  int64_t full;           // phases with all taps, along an axis
  bool has_panels;
};

bool is_known(int64_t tile, int64_t taps) {
  return (tile == 4 && (taps == 2 || taps == 3)) || (tile == 5 && taps == 2) ||
         (tile == 6 && (taps == 3 || taps == 4));
}

// adds: to what `out` has, where tiles overlap.
Plan prepare(const Tensor& x_in, const Tensor& weight, int64_t kernel, int64_t stride,
             const Pair& padding, const Pair& size, bool transposed, bool adds) {
  check_floating(x_in, "winograd", "x");
  check_same(x_in, "x", weight, "weight", "winograd");
  STD_TORCH_CHECK(stride >= 1, "winograd: stride must be at least 1, got ", stride);
  const int64_t taps = (kernel + stride - 1) / stride;
  STD_TORCH_CHECK(padding.size() == 2 && size.size() == 2 && size[0] >= 0 && size[1] >= 0,
                  "winograd: padding and size must be (y, x)");
  const int64_t phases = stride * stride;
  const int64_t in_phases = transposed ? 1 : phases, out_phases = transposed ? phases : 1;
  const bool shaped = x_in.dim() == 4 && weight.dim() == 4 &&
                      weight.size(2) == x_in.size(1) * in_phases &&
                      weight.size(1) * weight.size(3) % out_phases == 0;
  const int64_t out_channels = shaped ? weight.size(1) * weight.size(3) / out_phases : 0;
  const bool has_panels =
      shaped && weight.size(3) == kWinogradPanel && out_channels % kWinogradPanel == 0;
  const bool matches = shaped && (weight.size(1) == 1 || has_panels);
  int64_t tile = 4;
  while (tile < 6 && matches && tile * tile != weight.size(0)) ++tile;
  STD_TORCH_CHECK(matches && weight.size(0) == tile * tile,
                  "winograd: x must be [N, C, H, W] and weight that of winograd_weight, got x ",
                  shape_of(x_in), " and weight ", shape_of(weight));
  STD_TORCH_CHECK(is_known(tile, taps), "winograd: a kernel of ", kernel, " at stride ", stride,
                  " has ", taps, " taps to a phase, and weight is for tiles of ", tile,
                  "; known are 2 and 3 taps by tiles of 4, 2 by 5, and 3 and 4 by 6");
  const Tensor x = torch::stable::contiguous(
      torch::stable::transpose(torch::stable::transpose(x_in, 1, 2), 2, 3));
  const int64_t images = x.size(0), channels = x.size(3);
  const int64_t sizes[] = {images, size[0], size[1], out_channels};

  // The small side's pixels are `step` a tile, side by side; the large side's tiles overlap.
  const int64_t step = tile + 1 - taps;
  TileAxis small[2], large[2];
  bool covered = true;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t before = x.size(1 + axis), after = size[axis], pad = padding[axis];
    const int64_t few = transposed ? before : after, many = transposed ? after : before;
    const int64_t tiles = (few + step - 1) / step;
    small[axis] = {few, tiles, 0};
    large[axis] = {many, tiles, -pad};
    covered = covered && tiles > 0 && pad >= 0 && many + pad <= stride * (step * tiles + taps - 1);
  }
  const bool all_written = !transposed || (covered && !adds);
  const Tensor out = all_written ? torch::stable::new_empty(x, {sizes, 4})
                                 : torch::stable::new_zeros(x, {sizes, 4});
  const TileShape few{images,  transposed ? channels : out_channels, tile, step, 1, small[0],
                      small[1]};
  const TileShape many{images,  transposed ? out_channels : channels, tile, step, stride, large[0],
                       large[1]};
  return {x,
          torch::stable::contiguous(weight),
          out,
          transposed ? few : many,
          transposed ? many : few,
          kernel - stride * (taps - 1),
          has_panels};
}

Tensor channels_second(const Tensor& images) {
  return torch::stable::transpose(torch::stable::transpose(images, 1, 3), 2, 3);
}

Tensor winograd_cpu(const Tensor& x, const Tensor& weight, int64_t kernel, int64_t stride,
                    const Pair& padding, const Pair& size, bool transposed) {
  const Plan plan = prepare(x, weight, kernel, stride, padding, size, transposed, false);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::winograd<T>(input<T>(plan.x), input<T>(plan.weight), output<T>(plan.out), plan.from,
                     plan.to, plan.full, transposed, plan.has_panels);
  });
  return channels_second(plan.out);
}

#ifdef POLARITY_WITH_CUDA
// The products are the library's, of as many tiles at a time as a second-level cache holds.
Tensor winograd_cuda(const Tensor& x, const Tensor& weight, int64_t kernel, int64_t stride,
                     const Pair& padding, const Pair& size, bool transposed) {
  constexpr int64_t kCacheBytes = 32 << 20;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Plan plan = prepare(x, weight, kernel, stride, padding, size, transposed, true);
  void* const stream = current_cuda_stream(x.get_device_index());
  const int64_t depth = plan.from.depth(), total = plan.from.tiles(), places = plan.from.places();
  const Tensor matrices = torch::stable::reshape(torch::stable::transpose(plan.weight, 1, 2),
                                                 {places, depth, plan.to.depth()});
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t bytes = places * (depth + plan.to.depth()) * static_cast<int64_t>(sizeof(T));
    // Where tiles overlap those of an image stay together.
    const int64_t unit = std::max<int64_t>(1, transposed ? plan.from.image_tiles() : 1);
    const int64_t block =
        std::max<int64_t>(1, kCacheBytes / std::max<int64_t>(1, bytes * unit)) * unit;
    for (int64_t first = 0; first < total; first += block) {
      const int64_t count = std::min(block, total - first);
      const int64_t sizes[] = {places, count, depth};
      const Tensor tiles = torch::stable::new_empty(plan.x, {sizes, 3});
      cuda::winograd_tiles<T>(input<T>(plan.x), output<T>(tiles), plan.from, first, count,
                              transposed, stream);
      const Tensor products = torch::stable::contiguous(torch::stable::matmul(tiles, matrices));
      cuda::winograd_pixels<T>(input<T>(products), output<T>(plan.out), plan.to, first, count,
                               transposed, stream);
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
