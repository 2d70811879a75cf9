#include "../kernels/winograd.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "../kernels/mask_tangents.h"
#include "check.h"
#include "convolutions.h"

namespace polarity {
namespace {

struct Plan {
  Tensor x, weight, out;  // images [*, H, W, C]
  TileShape from, to;     // of x and of out; the same tiles
  int64_t full;           // phases with all taps, along an axis
  bool has_panels;
};

bool is_known(int64_t tile, int64_t taps) {
  return (tile == 4 && (taps == 2 || taps == 3)) || (tile == 5 && taps == 2) ||
         (tile == 6 && (taps == 3 || taps == 4));
}

Plan prepare(const Tensor& x_in, const Tensor& weight, int64_t kernel, int64_t stride,
             const Pair& padding, const Pair& size, bool transposed) {
  check_floating(x_in, "winograd", "x");
  check_same(x_in, "x", weight, "weight", "winograd");
  STD_TORCH_CHECK(stride >= 1, "winograd: stride must be at least 1, got ", stride);
  const int64_t taps = (kernel + stride - 1) / stride;
  STD_TORCH_CHECK(padding.size() == 2 && size.size() == 2 && size[0] >= 0 && size[1] >= 0,
                  "winograd: padding and size must be (y, x)");
  const int64_t phases = stride * stride;
  const int64_t in_phases = transposed ? 1 : phases, out_phases = transposed ? phases : 1;
  const int64_t leading = x_in.dim() - 3;
  const bool shaped = leading >= 1 && weight.dim() == 4 &&
                      weight.size(2) == x_in.size(leading) * in_phases &&
                      weight.size(1) * weight.size(3) % out_phases == 0;
  const int64_t out_channels = shaped ? weight.size(1) * weight.size(3) / out_phases : 0;
  const bool has_panels =
      shaped && weight.size(3) == kWinogradPanel && out_channels % kWinogradPanel == 0;
  const bool matches = shaped && (weight.size(1) == 1 || has_panels);
  int64_t tile = 4;
  while (tile < 6 && matches && tile * tile != weight.size(0)) ++tile;
  STD_TORCH_CHECK(matches && weight.size(0) == tile * tile,
                  "winograd: x must be [*, N, C, H, W] and weight that of winograd_weight, got x ",
                  shape_of(x_in), " and weight ", shape_of(weight));
  STD_TORCH_CHECK(is_known(tile, taps), "winograd: a kernel of ", kernel, " at stride ", stride,
                  " has ", taps, " taps to a phase, and weight is for tiles of ", tile,
                  "; known are 2 and 3 taps by tiles of 4, 2 by 5, and 3 and 4 by 6");
  const Tensor x =
      dense(torch::stable::transpose(torch::stable::transpose(x_in, leading, -2), leading + 1, -1));
  const int64_t channels = x.size(leading + 2);
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().begin() + leading);
  int64_t images = 1;
  for (const int64_t count : sizes) images *= count;
  sizes.insert(sizes.end(), {size[0], size[1], out_channels});

  // The small side's pixels are `step` a tile, side by side; the large side's tiles overlap.
  const int64_t step = tile + 1 - taps;
  TileAxis small[2], large[2];
  bool covered = true;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t before = x.size(leading + axis), after = size[axis], pad = padding[axis];
    const int64_t few = transposed ? before : after, many = transposed ? after : before;
    const int64_t tiles = (few + step - 1) / step;
    small[axis] = {few, tiles, 0};
    large[axis] = {many, tiles, -pad};
    covered = covered && tiles > 0 && pad >= 0 && many + pad <= stride * (step * tiles + taps - 1);
  }
  const bool all_written = !transposed || covered;
  const Tensor out =
      all_written ? torch::stable::new_empty(x, sizes) : torch::stable::new_zeros(x, sizes);
  const TileShape few{images,  transposed ? channels : out_channels, tile, step, 1, small[0],
                      small[1]};
  const TileShape many{images,  transposed ? out_channels : channels, tile, step, stride, large[0],
                       large[1]};
  return {x,
          dense(weight),
          out,
          transposed ? few : many,
          transposed ? many : few,
          kernel - stride * (taps - 1),
          has_panels};
}

// The bits of all samples [B, bytes], of results [*, B, H', W', C'].
std::optional<Tensor> mask_of(const Plan& plan, const std::optional<Tensor>& bits) {
  if (!bits.has_value()) return bits;
  const Tensor& out = plan.out;
  const int64_t batch = out.size(out.dim() - 4);
  const int64_t size = plan.to.y.pixels * plan.to.x.pixels * plan.to.channels;
  STD_TORCH_CHECK(
      bits->scalar_type() == ScalarType::Byte && bits->is_cuda() == out.is_cuda() &&
          bits->get_device_index() == out.get_device_index() && bits->dim() == 2 &&
          bits->size(0) == batch && bits->size(1) == (size + 7) / 8,
      "winograd: bits must be uint8 [B, ceil(n / 8)] on the device of x, B the size of its fourth"
      " dimension from the end and n the numbers of an image of results, here ",
      batch, " and ", size, "; got ", bits->scalar_type(), " ", shape_of(*bits));
  return dense(*bits);
}

// Masked in a pass of its own.
MaskLayout mask_layout(const Plan& plan) {
  const int64_t size = plan.to.y.pixels * plan.to.x.pixels * plan.to.channels;
  const int64_t batch = plan.out.size(plan.out.dim() - 4), probe = batch * size;
  const int64_t probes = batch == 0 ? 0 : plan.to.images / batch;
  return {probes, batch, size, probe, size, probe, size};
}

Tensor channels_second(const Tensor& images) {
  return torch::stable::transpose(torch::stable::transpose(images, -3, -1), -2, -1);
}

}  // namespace

Tensor winograd_cpu(const Tensor& x, const Tensor& weight, int64_t kernel, int64_t stride,
                    const Pair& padding, const Pair& size, bool transposed,
                    const std::optional<Tensor>& bits, double low, double high) {
  const Plan plan = prepare(x, weight, kernel, stride, padding, size, transposed);
  const std::optional<Tensor> mask = mask_of(plan, bits);
  const uint8_t* const given = mask.has_value() ? input<uint8_t>(*mask) : nullptr;
  const bool in_whole_bytes = plan.to.channels % 8 == 0;
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    T* const out = output<T>(plan.out);
    const T off = static_cast<T>(low), on = static_cast<T>(high);
    cpu::winograd<T>(
        input<T>(plan.x), input<T>(plan.weight), out, plan.from, plan.to, plan.full, transposed,
        plan.has_panels,
        {in_whole_bytes ? given : nullptr, off, on, plan.out.size(plan.out.dim() - 4)});
    if (given != nullptr && !in_whole_bytes) {
      cpu::mask_tangents<T>(out, given, off, on, out, mask_layout(plan));
    }
  });
  return channels_second(plan.out);
}

#ifdef POLARITY_WITH_CUDA
// The products are the library's, of as many tiles at a time as a second-level cache holds.
Tensor winograd_cuda(const Tensor& x, const Tensor& weight, int64_t kernel, int64_t stride,
                     const Pair& padding, const Pair& size, bool transposed,
                     const std::optional<Tensor>& bits, double low, double high) {
  constexpr int64_t kCacheBytes = 32 << 20;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Plan plan = prepare(x, weight, kernel, stride, padding, size, transposed);
  const std::optional<Tensor> mask = mask_of(plan, bits);
  void* const stream = current_cuda_stream(x.get_device_index());
  const int64_t depth = plan.from.depth(), total = plan.from.tiles(), places = plan.from.places();
  const Tensor matrices = torch::stable::reshape(torch::stable::transpose(plan.weight, 1, 2),
                                                 {places, depth, plan.to.depth()});
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    const int64_t bytes = places * (depth + plan.to.depth()) * static_cast<int64_t>(sizeof(T));
    const WinogradMask<T> slopes{mask.has_value() ? input<uint8_t>(*mask) : nullptr,
                                 static_cast<T>(low), static_cast<T>(high),
                                 plan.out.size(plan.out.dim() - 4)};
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
                               transposed, slopes, stream);
    }
  });
  return channels_second(plan.out);
}
#endif

}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("winograd", TORCH_BOX(&polarity::winograd_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("winograd", TORCH_BOX(&polarity::winograd_cuda));
}
#endif
