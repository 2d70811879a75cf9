#include "../device/launch.cuh"
#include "scale_tangents.cuh"

namespace polarity::cuda {
namespace {

bool aligned(const void* pointer, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0;
}

}  // namespace

template <typename T>
void scale_tangents(const T* t, const T* d, T* out, const TangentLayout& layout, void* stream) {
  const int64_t total = layout.probes * layout.batch * layout.size;
  if (total == 0) return;
  constexpr int kBlock = 256;
  constexpr int64_t kAlign = alignof(device::Quad<T>);
  const int64_t strides = layout.t_probe | layout.t_batch | layout.out_probe | layout.out_batch |
                          layout.d_batch | layout.size;
  const bool quads =
      strides % 4 == 0 && aligned(t, kAlign) && aligned(d, kAlign) && aligned(out, kAlign);
  const int64_t groups = (layout.probes + kProbesPerThread - 1) / kProbesPerThread;
  const int64_t work = groups * layout.batch * (quads ? layout.size / 4 : layout.size);
  auto* kernel = quads ? scale_tangents_kernel<T, device::Quad<T>> : scale_tangents_kernel<T, T>;
  device::launch("scale_tangents", kernel, device::grid_for(work, kBlock), kBlock, stream, t, d,
                 out, layout);
}

template void scale_tangents<float>(const float*, const float*, float*, const TangentLayout&,
                                    void*);
template void scale_tangents<double>(const double*, const double*, double*, const TangentLayout&,
                                     void*);

}  // namespace polarity::cuda
