#include "../device/launch.cuh"
#include "mask_tangents.cuh"

namespace polarity::cuda {

template <typename T>
void rectify(const T* x, T slope, T* y, uint8_t* bits, int64_t batch, int64_t size, void* stream) {
  if (batch * size == 0) return;
  const int64_t threads = batch * ((size + 31) / 32) * 32;
  device::launch("rectify", rectify_kernel<T>, device::grid_for(threads, kMaskBlock), kMaskBlock,
                 stream, x, slope, y, bits, batch, size);
}

template <typename T>
void mask_tangents(const T* t, const uint8_t* bits, T low, T high, T* out, const MaskLayout& layout,
                   void* stream) {
  if (layout.probes * layout.batch * layout.size == 0) return;
  using Quad = device::Quad<T>;
  const int64_t strides =
      layout.t_probe | layout.t_batch | layout.out_probe | layout.out_batch | layout.size;
  const bool quads = strides % 4 == 0 && device::is_aligned<Quad>(t, out);
  const int64_t groups = (layout.probes + kMaskProbes - 1) / kMaskProbes;
  const int64_t work = groups * layout.batch * (quads ? layout.size / 4 : layout.size);
  auto* kernel = quads ? mask_tangents_kernel<T, Quad> : mask_tangents_kernel<T, T>;
  device::launch("mask_tangents", kernel, device::grid_for(work, kMaskBlock), kMaskBlock, stream, t,
                 bits, low, high, out, layout);
}

#define POLARITY_INSTANTIATE(T)                                                 \
  template void rectify<T>(const T*, T, T*, uint8_t*, int64_t, int64_t, void*); \
  template void mask_tangents<T>(const T*, const uint8_t*, T, T, T*, const MaskLayout&, void*);
POLARITY_INSTANTIATE(float)
POLARITY_INSTANTIATE(double)

}  // namespace polarity::cuda
