#include <numeric>

#include "../device/launch.cuh"
#include "upfirdn2d.cuh"

namespace polarity::cuda {
namespace {

template <typename Index>
FirSteps<Index> steps_of(const FirAxis& axis) {
  const int64_t rest = ((-axis.pad) % axis.up + axis.up) % axis.up;
  const auto index = [](int64_t number) { return static_cast<Index>(number); };
  return {index(axis.in), index(axis.out),  index(axis.taps),
          index(axis.up), index(axis.down), index((-axis.pad - rest) / axis.up),
          index(rest)};
}

template <typename Index>
FirPlan<Index> plan_of(const FirShape& shape) {
  FirPlan<Index> plan{};
  plan.y = steps_of<Index>(shape.y), plan.x = steps_of<Index>(shape.x);
  // With channels first an image's are followed by the next one's: all are of one image.
  plan.images = static_cast<Index>(shape.channels_last ? shape.images : 1);
  plan.channels = static_cast<Index>((shape.channels_last ? 1 : shape.images) * shape.channels);
  plan.channels_inner = shape.channels_last;
  plan.groups = (plan.channels + kFirChannels - 1) / kFirChannels;
  const Index size = plan.y.in * plan.x.in, out_size = plan.y.out * plan.x.out;
  plan.image = plan.channels * size, plan.out_image = plan.channels * out_size;
  plan.channel = shape.channels_last ? 1 : size;
  plan.out_channel = shape.channels_last ? 1 : out_size;
  plan.pixel = shape.channels_last ? plan.channels : 1;

  const Index common = std::gcd(plan.y.up, plan.y.down);
  plan.step = plan.y.up / common, plan.shift = plan.y.down / common;
  const Index tall = (plan.y.out + plan.step * kFirRows - 1) / (plan.step * kFirRows);
  plan.strips = tall * plan.step;
  return plan;
}

// How many images a launch may take so that no number that the kernel forms reaches 2^31, with room
// to spare; 0: not even one.
int64_t images_of_32_bits(const FirShape& shape) {
  constexpr int64_t kLimit = int64_t{1} << 29;
  const auto reach = [](const FirAxis& axis) {  // of a strip that begins in the last output
    const int64_t last = (axis.out + kFirRows * axis.up) * axis.down + axis.taps + axis.up;
    return std::max({last, axis.in, std::abs(axis.pad)});
  };
  const int64_t channels = shape.channels + kFirChannels;
  const int64_t in = channels * shape.y.in * shape.x.in;
  const int64_t out = channels * (shape.y.out + kFirRows * shape.y.up) * shape.x.out;
  const int64_t turn = shape.y.up * shape.y.down * shape.x.taps;  // between two taps at most
  if (std::max(reach(shape.y), turn) >= kLimit) return 0;
  return kLimit / std::max({in, out, channels * reach(shape.x)});
}

template <typename T, typename Index>
void launch(const T* x, const T* taps, T* out, const FirShape& shape, void* stream) {
  const FirPlan<Index> plan = plan_of<Index>(shape);
  const bool adjacent = shape.channels_last && shape.channels % kFirChannels == 0 &&
                        device::is_aligned<FirNumbers<T>>(x, out);
  auto* kernel = adjacent ? upfirdn2d_kernel<T, true, Index> : upfirdn2d_kernel<T, false, Index>;
  const int64_t threads = int64_t{plan.images} * plan.groups * plan.strips * plan.x.out;
  const auto shared = static_cast<size_t>(shape.y.taps * shape.x.taps) * sizeof(T);
  device::launch_shared("upfirdn2d", kernel, device::grid_for(threads, kFirBlock), kFirBlock,
                        shared, stream, x, taps, out, plan);
}

}  // namespace

template <typename T>
void upfirdn2d(const T* x, const T* taps, T* out, const FirShape& shape, void* stream) {
  if (shape.images * shape.channels * shape.y.out * shape.x.out == 0) return;
  const int64_t most = images_of_32_bits(shape);
  if (most == 0) return launch<T, int64_t>(x, taps, out, shape, stream);
  const int64_t size = shape.channels * shape.y.in * shape.x.in;
  const int64_t out_size = shape.channels * shape.y.out * shape.x.out;
  FirShape part = shape;
  for (int64_t first = 0; first < shape.images; first += most) {
    part.images = std::min(most, shape.images - first);
    launch<T, int32_t>(x + first * size, taps, out + first * out_size, part, stream);
  }
}

template void upfirdn2d<float>(const float*, const float*, float*, const FirShape&, void*);
template void upfirdn2d<double>(const double*, const double*, double*, const FirShape&, void*);

}  // namespace polarity::cuda
