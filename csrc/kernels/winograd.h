// Convolution by Winograd's minimal filtering (Lavin and Gray, arXiv 1509.09308): images to
// transformed tiles, a matrix product for each of the 16 or 36 places in a tile, and back to
// images.
//
// A tile is 4 x 4 or 6 x 6 pixels, `stride` apart, and yields step x step results; there are
// stride x stride tiles that interleave, the phases. Pixel i of tile t in phase p lies, along
// either axis, at
//   stride (step t + i) + origin + p.
// step = tile + 1 - taps. Tiles of 4 serve two and three taps to a phase, by interpolation at 0, 1,
// -1 and infinity; those of 6 three taps, at 0, 3/4, -3/4, 3/2, -3/2 and infinity: of the points
// whose powers are short binary fractions those with the least rounding, half that of 1 and 2.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct TileAxis {
  int64_t pixels, tiles, origin;
};

// The tiles of images [images, y.pixels, x.pixels, channels].
struct TileShape {
  int64_t images, channels;
  int64_t tile, step, stride;  // tile: pixels along an edge
  TileAxis y, x;

  POLARITY_HOST_DEVICE int64_t tiles() const { return images * y.tiles * x.tiles; }
  POLARITY_HOST_DEVICE int64_t places() const { return tile * tile; }
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

// Along an edge of a tile of images: values at the points, in place of the pixels.
template <int tile, int pitch, typename T, typename V>
POLARITY_HOST_DEVICE void to_points(V* v) {
  V &a = v[0], &b = v[pitch], &c = v[2 * pitch], &d = v[3 * pitch];
  if constexpr (tile == 4) {
    const V first = a - c, sum = b + c, difference = c - b, last = b - d;
    a = first;
    b = sum;
    c = difference;
    d = last;
  } else {
    V &e = v[4 * pitch], &f = v[5 * pitch];
    const V first = T(1.265625) * a - T(2.8125) * c + e;
    const V last = T(1.265625) * b - T(2.8125) * d + f;
    const V inner_even = e - T(2.25) * c, inner_odd = T(0.75) * d - T(1.6875) * b;
    const V outer_even = e - T(0.5625) * c, outer_odd = T(1.5) * d - T(0.84375) * b;
    a = first;
    b = inner_even + inner_odd;
    c = inner_even - inner_odd;
    d = outer_even + outer_odd;
    e = outer_even - outer_odd;
    f = last;
  }
}

// Along an edge of a tile of products: `step` results, in place of the first ones.
template <int tile, int step, int pitch, typename T, typename V>
POLARITY_HOST_DEVICE void from_points(V* v) {
  V &a = v[0], &b = v[pitch], &c = v[2 * pitch], &d = v[3 * pitch];
  if constexpr (tile == 4) {
    const V sum = b + c, difference = b - c;
    a = a + sum;
    b = step == 2 ? difference - d : difference;
    if constexpr (step == 3) c = sum - d;
  } else {
    static_assert(step == 4, "tiles of 6 are for three taps");
    const V &e = v[4 * pitch], &f = v[5 * pitch];
    const V inner_sum = b + c, inner_difference = b - c;
    const V outer_sum = d + e, outer_difference = d - e;
    a = a + inner_sum + outer_sum;
    b = T(0.75) * inner_difference + T(1.5) * outer_difference;
    c = T(0.5625) * inner_sum + T(2.25) * outer_sum;
    d = T(0.421875) * inner_difference + T(3.375) * outer_difference + f;
  }
}

namespace cpu {
// x and out are images of `from` and `to`, which have the same tiles; x is zero beyond its border.
// weight is [places, from.depth(), to.depth()]. Along an axis, the phases from number `full` on
// have one tap less, so that their weight is zero at one point: infinity, or 0 where kernels are
// turned around (to.stride > 1).
template <typename T>
void winograd(const T* x, const T* weight, T* out, const TileShape& from, const TileShape& to,
              int64_t full);
}  // namespace cpu
namespace cuda {
// Tiles first .. first + count of images, as [places, count, depth].
template <typename T>
void winograd_tiles(const T* x, T* tiles, const TileShape& shape, int64_t first, int64_t count,
                    void* stream);

// The pixels that products of these tiles, [places, count, depth], yield.
template <typename T>
void winograd_pixels(const T* products, T* out, const TileShape& shape, int64_t first,
                     int64_t count, void* stream);
}  // namespace cuda
}  // namespace polarity
