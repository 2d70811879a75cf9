#include "../device/launch.cuh"
#include "winograd.cuh"

namespace polarity::cuda {

template <typename T>
void winograd_tiles(const T* x, T* tiles, const TileShape& shape, int64_t first, int64_t count,
                    void* stream) {
  const int64_t work = count * shape.depth();
  if (work == 0) return;
  auto* kernel = shape.tile == 6 ? winograd_tiles_kernel<T, 6> : winograd_tiles_kernel<T, 4>;
  device::launch("winograd_tiles", kernel, device::grid_for(work, kWinogradBlock), kWinogradBlock,
                 stream, x, tiles, shape, first, count);
}

template <typename T>
void winograd_pixels(const T* products, T* out, const TileShape& shape, int64_t first,
                     int64_t count, void* stream) {
  const int64_t work = count * shape.depth();
  if (work == 0) return;
  auto* kernel = shape.tile == 6   ? winograd_pixels_kernel<T, 6, 4>
                 : shape.step == 2 ? winograd_pixels_kernel<T, 4, 2>
                                   : winograd_pixels_kernel<T, 4, 3>;
  device::launch("winograd_pixels", kernel, device::grid_for(work, kWinogradBlock), kWinogradBlock,
                 stream, products, out, shape, first, count);
}

#define POLARITY_INSTANTIATE(T)                                                             \
  template void winograd_tiles<T>(const T*, T*, const TileShape&, int64_t, int64_t, void*); \
  template void winograd_pixels<T>(const T*, T*, const TileShape&, int64_t, int64_t, void*);
POLARITY_INSTANTIATE(float)
POLARITY_INSTANTIATE(double)

}  // namespace polarity::cuda
