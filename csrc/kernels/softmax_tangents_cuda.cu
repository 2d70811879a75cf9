#include "../device/launch.cuh"
#include "softmax_tangents.cuh"

namespace polarity::cuda {

template <typename T>
void softmax_tangents(const T* t, const T* y, T* out, const RowLayout& layout, void* stream) {
  const int64_t items = layout.probes * layout.rows;
  if (items * layout.size == 0) return;
  using Quad = device::Quad<T>;
  const bool quads = (layout.size | layout.t_probe) % 4 == 0 && device::is_aligned<Quad>(t, y, out);
  constexpr int64_t kWarpRow = 1024;  // up to here a warp holds enough loads in flight
  const bool warps = layout.size <= kWarpRow;
  auto* kernel =
      warps ? (quads ? softmax_tangents_kernel<T, Quad, 32> : softmax_tangents_kernel<T, T, 32>)
            : (quads ? softmax_tangents_kernel<T, Quad, kSoftmaxBlock>
                     : softmax_tangents_kernel<T, T, kSoftmaxBlock>);
  const int64_t work = items * (warps ? 32 : kSoftmaxBlock);
  device::launch("softmax_tangents", kernel, device::grid_for(work, kSoftmaxBlock), kSoftmaxBlock,
                 stream, t, y, out, layout);
}

template void softmax_tangents<float>(const float*, const float*, float*, const RowLayout&, void*);
template void softmax_tangents<double>(const double*, const double*, double*, const RowLayout&,
                                       void*);

}  // namespace polarity::cuda
