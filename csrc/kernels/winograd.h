// Convolution by Winograd's minimal filtering (Lavin and Gray, arXiv 1509.09308): images to
// transformed tiles, a matrix product for each of the 16 places in a tile, and back to images.
//
// A tile is 4 x 4 pixels, `stride` apart, and yields step x step results; there are stride x stride
// tiles that interleave, the phases. Pixel i of tile t in phase p lies, along either axis, at
//   stride (step t + i) + origin + p.
// step = 2 for three taps to a phase, 3 for two: both are interpolation at 0, 1, -1 and infinity.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

constexpr int kTile = 4;                // pixels along an edge
constexpr int kPlaces = kTile * kTile;  // in a tile

struct TileAxis {
  int64_t pixels, tiles, origin;
};

// The tiles of images [images, y.pixels, x.pixels, channels].
struct TileShape {
  int64_t images, channels;
  int64_t step, stride;
  TileAxis y, x;

  POLARITY_HOST_DEVICE int64_t tiles() const { return images * y.tiles * x.tiles; }
  POLARITY_HOST_DEVICE int64_t phases() const { return stride * stride; }
  // Numbers of a tile at one of its places.
  POLARITY_HOST_DEVICE int64_t depth() const { return phases() * channels; }
};

// A phase of a tile: its image and its first pixel.
struct TilePosition {
  int64_t image, y, x;
};

POLARITY_HOST_DEVICE TilePosition tile_position(const TileShape& shape, int64_t tile,
                                                int64_t phase) {
  const int64_t line = tile / shape.x.tiles;
  const int64_t image = line / shape.y.tiles;
  const int64_t stride = shape.stride, step = stride * shape.step;
  return {image, step * (line - image * shape.y.tiles) + shape.y.origin + phase / stride,
          step * (tile - line * shape.x.tiles) + shape.x.origin + phase % stride};
}

// Along an edge of a tile of images.
template <typename V>
POLARITY_HOST_DEVICE void to_points(V& a, V& b, V& c, V& d) {
  const V first = a - c, sum = b + c, difference = c - b, last = b - d;
  a = first;
  b = sum;
  c = difference;
  d = last;
}

// Along an edge of a tile of products: `step` results, in place of the first ones.
template <int step, typename V>
POLARITY_HOST_DEVICE void from_points(V& a, V& b, V& c, const V& d) {
  const V sum = b + c, difference = b - c;
  a = a + sum;
  b = step == 2 ? difference - d : difference;
  if (step == 3) c = sum - d;
}

namespace cpu {
// x and out are images of `from` and `to`, which have the same tiles; x is zero beyond its border.
// weight is [16, from.depth(), to.depth()].
template <typename T>
void winograd(const T* x, const T* weight, T* out, const TileShape& from, const TileShape& to);
}  // namespace cpu
namespace cuda {
// Tiles first .. first + count of images, as [16, count, depth].
template <typename T>
void winograd_tiles(const T* x, T* tiles, const TileShape& shape, int64_t first, int64_t count,
                    void* stream);

// The pixels that products of these tiles, [16, count, depth], yield.
template <typename T>
void winograd_pixels(const T* products, T* out, const TileShape& shape, int64_t first,
                     int64_t count, void* stream);
}  // namespace cuda
}  // namespace polarity
