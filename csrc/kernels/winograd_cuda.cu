#include <type_traits>

#include "../device/launch.cuh"
#include "winograd.cuh"

namespace polarity::cuda {
namespace {

template <int n>
using Constant = std::integral_constant<int, n>;

// Edge and step of the tiles as constants.
template <typename Function>
void for_tile(const TileShape& shape, Function function) {
  if (shape.tile == 5) return function(Constant<5>(), Constant<4>());
  if (shape.tile == 6 && shape.step == 3) return function(Constant<6>(), Constant<3>());
  if (shape.tile == 6) return function(Constant<6>(), Constant<4>());
  if (shape.step == 2) return function(Constant<4>(), Constant<2>());
  function(Constant<4>(), Constant<3>());
}

template <typename T, int tile, int step>
void read(const T* x, T* tiles, const TileShape& shape, int64_t first, int64_t number,
          bool transposed, void* stream) {
  const int64_t grid = device::grid_for(number * shape.depth(), kWinogradBlock);
  auto* kernel =
      transposed ? winograd_tiles_kernel<T, tile, step> : winograd_tiles_kernel<T, tile, tile>;
  device::launch("winograd_tiles", kernel, grid, kWinogradBlock, stream, x, tiles, shape, first,
                 number);
}

template <typename T, typename Packet, int tile, int step>
void write_packets(const T* products, T* out, const TileShape& shape, int64_t first, int64_t number,
                   bool transposed, const WinogradMask<T>& mask, void* stream) {
  auto* kernel = transposed ? winograd_overlapping_pixels_kernel<T, Packet, tile, step>
                            : winograd_pixels_kernel<T, Packet, tile, step>;
  const int64_t rows = number / shape.image_tiles() * (shape.y.tiles + 1);
  const int64_t work =
      (transposed ? rows : number) * shape.depth() / device::kPacketWidth<T, Packet>;
  device::launch("winograd_pixels", kernel, device::grid_for(work, kWinogradBlock), kWinogradBlock,
                 stream, products, out, shape, first, number, mask);
}

template <typename T, int tile, int step>
void write(const T* products, T* out, const TileShape& shape, int64_t first, int64_t number,
           bool transposed, const WinogradMask<T>& mask, void* stream) {
  using Packet = std::conditional_t<sizeof(T) == 4, device::Vector<T, 2>, T>;  // 8 bytes
  const bool whole = shape.channels % device::kPacketWidth<T, Packet> == 0 &&
                     device::is_aligned<Packet>(products, out);
  (whole ? write_packets<T, Packet, tile, step>
         : write_packets<T, T, tile, step>)(products, out, shape, first, number, transposed, mask,
                                            stream);
}

}  // namespace

template <typename T>
void winograd_tiles(const T* x, T* tiles, const TileShape& shape, int64_t first, int64_t number,
                    bool transposed, void* stream) {
  if (number * shape.depth() == 0) return;
  for_tile(shape, [&](auto tile, auto step) {
    read<T, tile(), step()>(x, tiles, shape, first, number, transposed, stream);
  });
}

template <typename T>
void winograd_pixels(const T* products, T* out, const TileShape& shape, int64_t first,
                     int64_t number, bool transposed, const WinogradMask<T>& mask, void* stream) {
  if (number * shape.depth() == 0) return;
  for_tile(shape, [&](auto tile, auto step) {
    write<T, tile(), step()>(products, out, shape, first, number, transposed, mask, stream);
  });
}

#define POLARITY_INSTANTIATE(T)                                                                   \
  template void winograd_tiles<T>(const T*, T*, const TileShape&, int64_t, int64_t, bool, void*); \
  template void winograd_pixels<T>(const T*, T*, const TileShape&, int64_t, int64_t, bool,        \
                                   const WinogradMask<T>&, void*);
POLARITY_INSTANTIATE(float)
POLARITY_INSTANTIATE(double)

}  // namespace polarity::cuda
