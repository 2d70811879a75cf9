// Convolution by minimal filtering (Lavin and Gray, arXiv 1509.09308), and its transpose: tiles of
// images to values at points, a matrix product for each point, and back to images.
//
// A transposed convolution multiplies polynomials: along an edge, `step` numbers, times `taps` of
// the kernel, make tile = step + taps - 1. Both factors are evaluated at the points, multiplied
// there, and the product is interpolated; neighbouring tiles overlap and are added up. A
// convolution is the transpose of that, by the same transformed kernel: tiles of `tile` pixels that
// overlap yield `step` results each. A stride gives stride x stride tiles that interleave, the
// phases. Number i of tile t in phase p lies, along either axis, at
//   stride (step t + i) + origin + p.
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
  int64_t tile, step, stride;
  TileAxis y, x;

  POLARITY_HOST_DEVICE int64_t image_tiles() const { return y.tiles * x.tiles; }
  POLARITY_HOST_DEVICE int64_t tiles() const { return images * image_tiles(); }
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

// Where polynomials are evaluated: at 0 or not, at one or two pairs +p and -p, and at infinity,
// which gives the coefficient of the highest power. Of the points whose powers are short binary
// fractions, those with the least rounding.
template <int tile>
struct Points;
template <>
struct Points<4> {
  static constexpr int kZero = 1, kPairs = 1;
  static constexpr double kPair = 1.0, kPair2 = 0.0;
};
template <>
struct Points<5> {
  static constexpr int kZero = 0, kPairs = 2;
  static constexpr double kPair = 0.5, kPair2 = 1.25;
};
template <>
struct Points<6> {
  static constexpr int kZero = 1, kPairs = 2;
  static constexpr double kPair = 0.75, kPair2 = 1.5;
};

// Numbers along an edge of a tile, `pitch` apart.
template <int pitch, typename V>
struct Edge {
  V* v;
  POLARITY_HOST_DEVICE V& operator[](int i) const { return v[i * pitch]; }
};

// From the coefficients of a polynomial of degree step - 1 to its values at p and -p.
template <int step, typename T, typename V>
POLARITY_HOST_DEVICE void evaluate_pair(const V (&y)[4], double p, V& plus, V& minus) {
  V even = y[0], odd = T(p) * y[1];
  if constexpr (step > 2) even += T(p * p) * y[2];
  if constexpr (step > 3) odd += T(p * p * p) * y[3];
  plus = even + odd;
  minus = even - odd;
}

// From `step` coefficients to the values at the points, in their place.
template <int tile, int step, int pitch, typename T, typename V>
POLARITY_HOST_DEVICE void evaluate(V* edge) {
  using P = Points<tile>;
  const Edge<pitch, V> v{edge};
  V y[4];
  for (int i = 0; i < step; ++i) y[i] = v[i];
  constexpr int z = P::kZero;  // v[0] is the value at 0, the first coefficient, already
  evaluate_pair<step, T>(y, P::kPair, v[z], v[z + 1]);
  if constexpr (P::kPairs == 2) evaluate_pair<step, T>(y, P::kPair2, v[z + 2], v[z + 3]);
  v[tile - 1] = y[step - 1];
}

// The transpose of `evaluate`: from products at the points to `step` results, in place of the
// first.
template <int tile, int step, int pitch, typename T, typename V>
POLARITY_HOST_DEVICE void evaluate_transposed(V* edge) {
  using P = Points<tile>;
  constexpr double p = P::kPair, q = P::kPair2;
  constexpr int z = P::kZero;
  const Edge<pitch, V> v{edge};
  const V sum = v[z] + v[z + 1], difference = v[z] - v[z + 1], last = v[tile - 1];
  V y[4] = {sum, T(p) * difference, T(p * p) * sum, T(p * p * p) * difference};
  if constexpr (P::kPairs == 2) {
    const V sum2 = v[z + 2] + v[z + 3], difference2 = v[z + 2] - v[z + 3];
    y[0] += sum2;
    y[1] += T(q) * difference2;
    y[2] += T(q * q) * sum2;
    y[3] += T(q * q * q) * difference2;
  }
  if constexpr (z == 1) y[0] += v[0];
  y[step - 1] += last;
  for (int i = 0; i < step; ++i) v[i] = y[i];
}

// From products at the points to the coefficients of the polynomial of degree tile - 1 (Lagrange),
// in their place. The kernel holds the denominators.
template <int tile, int pitch, typename T, typename V>
POLARITY_HOST_DEVICE void interpolate(V* edge) {
  using P = Points<tile>;
  constexpr double p = P::kPair, q = P::kPair2;
  constexpr int z = P::kZero;
  const Edge<pitch, V> v{edge};
  V d[tile] = {};
  d[tile - 1] = v[tile - 1];
  const V sum = v[z] + v[z + 1], difference = T(p) * (v[z] - v[z + 1]);
  if constexpr (P::kPairs == 1) {
    d[z] = difference - T(p * p) * v[tile - 1];
    d[z + 1] = sum;
    if constexpr (z == 1) {
      d[0] = T(-p * p) * v[0];
      d[2] += v[0];
    }
  } else {
    const V sum2 = v[z + 2] + v[z + 3], difference2 = T(q) * (v[z + 2] - v[z + 3]);
    d[z] = T(p * p * q * q) * v[tile - 1] - T(q * q) * difference - T(p * p) * difference2;
    d[z + 1] = T(-q * q) * sum - T(p * p) * sum2;
    d[z + 2] = difference + difference2 - T(p * p + q * q) * v[tile - 1];
    d[z + 3] = sum + sum2;
    if constexpr (z == 1) {
      d[0] = T(p * p * q * q) * v[0];
      d[2] -= T(p * p + q * q) * v[0];
      d[4] += v[0];
    }
  }
  for (int i = 0; i < tile; ++i) v[i] = d[i];
}

// The transpose of `interpolate`: from the pixels of a tile to values at the points.
template <int tile, int pitch, typename T, typename V>
POLARITY_HOST_DEVICE void interpolate_transposed(V* edge) {
  using P = Points<tile>;
  constexpr double p = P::kPair, q = P::kPair2;
  constexpr int z = P::kZero;
  const Edge<pitch, V> v{edge};
  V d[tile];
  for (int i = 0; i < tile; ++i) d[i] = v[i];
  if constexpr (P::kPairs == 1) {
    if constexpr (z == 1) v[0] = d[2] - T(p * p) * d[0];
    v[z] = d[z + 1] + T(p) * d[z];
    v[z + 1] = d[z + 1] - T(p) * d[z];
    v[tile - 1] = d[z + 2] - T(p * p) * d[z];
  } else {
    if constexpr (z == 1) v[0] = T(p * p * q * q) * d[0] - T(p * p + q * q) * d[2] + d[4];
    const V even = T(p) * d[z + 2] - T(p * q * q) * d[z], odd = d[z + 3] - T(q * q) * d[z + 1];
    const V even2 = T(q) * d[z + 2] - T(q * p * p) * d[z], odd2 = d[z + 3] - T(p * p) * d[z + 1];
    v[z] = odd + even;
    v[z + 1] = odd - even;
    v[z + 2] = odd2 + even2;
    v[z + 3] = odd2 - even2;
    v[tile - 1] = T(p * p * q * q) * d[z] - T(p * p + q * q) * d[z + 2] + d[z + 4];
  }
}

// Output channels that CPU kernels multiply together, and weights may be stored by.
constexpr int64_t kWinogradPanel = 32;

// What results are multiplied by: as in mask_tangents, of image n by the bits of sample n % batch.
template <typename T>
struct WinogradMask {
  const uint8_t* bits;  // none: by 1
  T low, high;
  int64_t batch;
};

namespace cpu {
// x and out are images of `from` and `to`, which have the same tiles; those of `from` overlap, or,
// of a transposed convolution, those of `to`, which then cover all of its images. x is zero beyond
// its border. weight is [places, from.depth(), to.depth()], or has panels: [places, to.depth() /
// kWinogradPanel, from.depth(), kWinogradPanel]. Along an axis, the phases from number `full` on
// have one tap less, so that their weight is zero at infinity.
template <typename T>
void winograd(const T* x, const T* weight, T* out, const TileShape& from, const TileShape& to,
              int64_t full, bool transposed, bool has_panels, const WinogradMask<T>& mask);
}  // namespace cpu
namespace cuda {
// Tiles first .. first + number of images, as [places, number, depth].
template <typename T>
void winograd_tiles(const T* x, T* tiles, const TileShape& shape, int64_t first, int64_t number,
                    bool transposed, void* stream);

// The pixels that products of these tiles, [places, number, depth], yield. Of a transposed
// convolution the tiles are those of whole images.
template <typename T>
void winograd_pixels(const T* products, T* out, const TileShape& shape, int64_t first,
                     int64_t number, bool transposed, const WinogradMask<T>& mask, void* stream);
}  // namespace cuda
}  // namespace polarity
