#include "../device/launch.cuh"
#include "modulate_tangents.cuh"

namespace polarity::cuda {

template <typename T>
void modulate_tangents(const T* tx, const T* x, const T* s, const T* ts, T* out,
                       const ModulateLayout& layout, void* stream) {
  const int64_t size = layout.batch * layout.channels * layout.pixels;
  if (layout.probes * size == 0) return;
  using Quad = device::Quad<T>;
  const int64_t run = layout.channels_last ? layout.channels : layout.pixels;
  const bool quads = (run | layout.t_probe) % 4 == 0 && device::is_aligned<Quad>(tx, x, out);
  const int64_t groups = (layout.probes + kModulateProbes - 1) / kModulateProbes;
  auto* kernel = quads ? modulate_tangents_kernel<T, Quad> : modulate_tangents_kernel<T, T>;
  const int64_t work = groups * (quads ? size / 4 : size);
  device::launch("modulate_tangents", kernel, device::grid_for(work, kModulateBlock),
                 kModulateBlock, stream, tx, x, s, ts, out, layout);
}

template <typename T>
void modulate_cotangents(const T* u, const T* x, const T* s, T* out, T* sums,
                         const ModulateLayout& layout, void* stream) {
  const int64_t channels = layout.batch * layout.channels * layout.probes;
  if (channels == 0) return;
  using Quad = device::Quad<T>;
  if (layout.channels_last) {
    const int64_t tiles = (layout.channels + kModulateColumns - 1) / kModulateColumns;
    const bool quads =
        (layout.channels | layout.t_probe) % 4 == 0 && device::is_aligned<Quad>(u, x, s, out);
    auto* kernel = quads ? modulate_columns_kernel<T, Quad> : modulate_columns_kernel<T, T>;
    const int64_t work = tiles * layout.batch * layout.probes * kModulateBlock;
    device::launch("modulate_cotangents", kernel, device::grid_for(work, kModulateBlock),
                   kModulateBlock, stream, u, x, s, out, sums, layout);
    return;
  }
  const bool quads =
      (layout.pixels | layout.t_probe) % 4 == 0 && device::is_aligned<Quad>(u, x, out);
  constexpr int64_t kWarpRow = 1024;  // up to here a warp holds enough loads in flight
  const bool warps = layout.pixels <= kWarpRow;
  auto* kernel =
      warps
          ? (quads ? modulate_cotangents_kernel<T, Quad, 32> : modulate_cotangents_kernel<T, T, 32>)
          : (quads ? modulate_cotangents_kernel<T, Quad, kModulateBlock>
                   : modulate_cotangents_kernel<T, T, kModulateBlock>);
  const int64_t work = channels * (warps ? 32 : kModulateBlock);
  device::launch("modulate_cotangents", kernel, device::grid_for(work, kModulateBlock),
                 kModulateBlock, stream, u, x, s, out, sums, layout);
}

#define POLARITY_INSTANTIATE(T)                                                  \
  template void modulate_tangents<T>(const T*, const T*, const T*, const T*, T*, \
                                     const ModulateLayout&, void*);              \
  template void modulate_cotangents<T>(const T*, const T*, const T*, T*, T*,     \
                                       const ModulateLayout&, void*);
POLARITY_INSTANTIATE(float)
POLARITY_INSTANTIATE(double)

}  // namespace polarity::cuda
