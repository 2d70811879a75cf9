#include <algorithm>
#include <limits>

#include "../device/launch.cuh"
#include "convolve_to_few.cuh"

namespace polarity::cuda {
namespace {

int64_t parts(int64_t whole, int64_t most) { return (whole + most - 1) / most; }

// Equal tiles, of which the fewest threads are idle.
template <typename T, int sums>
FewTile tile_of(const FewShape& shape, bool in_pieces) {
  constexpr int kCells = kFewCells<sums>;
  const int64_t stride = shape.stride, columns = shape.x.cells(stride);
  const int64_t strips = parts(shape.y.cells(stride), kCells);
  FewTile tile{};
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t across = parts(columns, kFewColumns); across <= parts(columns, 8); ++across) {
    const int64_t wide = parts(columns, across);
    const int64_t down = parts(strips, std::min(kFewStrips, kFewBlock / wide));
    const int64_t high = parts(strips, down), threads = across * down * parts(wide * high, 32);
    if (threads >= least) continue;
    least = threads;
    tile.columns = static_cast<int>(wide);
    tile.strips = static_cast<int>(high);
    tile.across = across;
    tile.down = down;
  }
  const int64_t tap_rows = shape.y.taps(stride), tap_columns = shape.x.taps(stride);
  tile.tap_rows = static_cast<int>(parts(tap_rows, parts(tap_rows, kFewTaps)));
  tile.tap_columns = static_cast<int>(parts(tap_columns, parts(tap_columns, kFewTaps)));
  tile.rows = tile.strips * kCells + tile.tap_rows - 1;
  tile.pitch = tile.columns + tile.tap_columns - 1;
  tile.stages =
      static_cast<int>(parts(tap_rows, tile.tap_rows) * parts(tap_columns, tile.tap_columns) *
                       parts(shape.channels, FewStage<T, sums>::kChannels));
  tile.groups = parts(stride * stride * shape.out_channels, sums);
  tile.in_pieces = in_pieces;
  return tile;
}

template <typename T, int sums>
void run(const T* x, const T* weight, T* out, const FewShape& shape, FewFactor<T> factor,
         void* stream) {
  using Piece = FewPiece<T>;
  const bool in_pieces = shape.last && shape.channels % Piece::kChannels == 0 &&
                         reinterpret_cast<uintptr_t>(x) % alignof(Piece) == 0;
  const FewTile tile = tile_of<T, sums>(shape, in_pieces);
  const int64_t blocks = shape.images * tile.down * tile.across * tile.groups;
  const size_t shared = 2 * static_cast<size_t>(FewStage<T, sums>::pieces(tile));
  const int threads = static_cast<int>(parts(tile.columns * tile.strips, 32)) * 32;
  device::launch_shared("convolve_to_few", convolve_to_few_kernel<T, sums>,
                        device::grid_for(blocks, 1), threads, shared * sizeof(Piece), stream, x,
                        weight, out, shape, tile, factor);
}

}  // namespace

template <typename T>
void convolve_to_few(const T* x, const T* weight, T* out, const FewShape& shape,
                     FewFactor<T> factor, void* stream) {
  if (shape.images * shape.out_channels * shape.y.out * shape.x.out == 0) return;
  // 12: three colours at stride 2.
  const bool is_small = shape.stride * shape.stride * shape.out_channels <= 4;
  (is_small ? run<T, 4> : run<T, 12>)(x, weight, out, shape, factor, stream);
}

template void convolve_to_few<float>(const float*, const float*, float*, const FewShape&,
                                     FewFactor<float>, void*);
template void convolve_to_few<double>(const double*, const double*, double*, const FewShape&,
                                      FewFactor<double>, void*);

}  // namespace polarity::cuda
