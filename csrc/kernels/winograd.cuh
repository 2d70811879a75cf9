#pragma once

#include "../device/packet.cuh"
#include "winograd.h"

namespace polarity {

constexpr int kWinogradBlock = 256;

// One thread for each number at a place of the tiles. Neighbours in a warp have neighbouring
// channels of one tile, so that all accesses are coalesced; the tile is in registers. `count` is
// `tile`, or, of a transposed convolution, the step.
template <typename T, int tile, int count>
POLARITY_GLOBAL void winograd_tiles_kernel(const T* x, T* tiles, TileShape shape, int64_t first,
                                           int64_t number) {
  const int64_t plane = number * shape.depth();
  for (int64_t index = device::thread_index(); index < plane; index += device::grid_threads()) {
    const int64_t phased = index / shape.channels;
    const int64_t channel = index - phased * shape.channels;
    const TilePosition at =
        tile_position(shape, first + phased / shape.phases(), phased % shape.phases());
    T v[tile][tile];
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int64_t row = at.y + i * shape.stride;
      const bool in_rows = row >= 0 && row < shape.y.pixels;
      const T* line = x + (at.image * shape.y.pixels + row) * shape.x.pixels * shape.channels;
#pragma unroll
      for (int j = 0; j < count; ++j) {
        const int64_t column = at.x + j * shape.stride;
        const bool inside = in_rows && column >= 0 && column < shape.x.pixels;
        v[i][j] = inside ? line[column * shape.channels + channel] : T(0);
      }
      if constexpr (count == tile) {
        interpolate_transposed<tile, 1, T>(v[i]);
      } else {
        evaluate<tile, count, 1, T>(v[i]);
      }
    }
#pragma unroll
    for (int j = 0; j < tile; ++j) {
      if constexpr (count == tile) {
        interpolate_transposed<tile, tile, T>(&v[0][j]);
      } else {
        evaluate<tile, count, tile, T>(&v[0][j]);
      }
#pragma unroll
      for (int i = 0; i < tile; ++i) tiles[(tile * i + j) * plane + index] = v[i][j];
    }
  }
}

// An image of results, which a rectifier's slopes multiply as they are written: some channels at a
// time, whose bits share a byte.
template <typename T, typename Packet>
struct WinogradImage {
  static constexpr int kWidth = device::kPacketWidth<T, Packet>;
  T* out;
  const uint8_t* bits;  // none: results as they are
  T low, high;

  POLARITY_DEVICE WinogradImage(T* all, const TileShape& shape, const WinogradMask<T>& mask,
                                int64_t image)
      : out(all), bits(mask.bits), low(mask.low), high(mask.high) {
    const int64_t size = shape.y.pixels * shape.x.pixels * shape.channels;
    out += image * size;
    if (bits != nullptr) bits += image % mask.batch * ((size + 7) / 8);
  }

  POLARITY_DEVICE unsigned bits_of(int64_t place) const {
    return bits[place / 8] >> place % 8 & ((1u << kWidth) - 1);
  }

  POLARITY_DEVICE void write(int64_t place, Packet numbers, unsigned of_them) const {
    if (bits != nullptr) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) device::element(numbers, k) *= of_them >> k & 1 ? high : low;
    }
    device::store_packet(out + place, numbers);
  }
};

// What a tile, or a row of them, yields: step x step pixels of one phase and some channels.
template <typename T, typename Packet, int step>
struct WinogradPatch {
  static constexpr int kWidth = device::kPacketWidth<T, Packet>;
  const TileShape& shape;
  const WinogradImage<T, Packet>& image;
  int64_t row, column, channel;  // the first ones

  POLARITY_DEVICE bool has(int i, int j) const {
    const int64_t y = row + i * shape.stride, x = column + j * shape.stride;
    return y >= 0 && y < shape.y.pixels && x >= 0 && x < shape.x.pixels;
  }
  POLARITY_DEVICE int64_t place(int i, int j) const {
    const int64_t pixel = (row + i * shape.stride) * shape.x.pixels + column + j * shape.stride;
    return pixel * shape.channels + channel;
  }
  // Asked for before all else, so that no result waits for its bits.
  POLARITY_DEVICE void read_bits(unsigned (&bits)[step]) const {
    if (image.bits == nullptr) return;
#pragma unroll
    for (int i = 0; i < step; ++i) {
#pragma unroll
      for (int j = 0; j < step; ++j) {
        if (has(i, j)) bits[i] |= image.bits_of(place(i, j)) << j * kWidth;
      }
    }
  }
  POLARITY_DEVICE void write(int i, int j, const Packet& numbers, const unsigned (&bits)[step]) {
    if (has(i, j)) image.write(place(i, j), numbers, bits[i] >> j * kWidth);
  }
};

// One thread for each packet of the results of a tile at one of its pixels.
template <typename T, typename Packet, int tile, int step>
POLARITY_GLOBAL void winograd_pixels_kernel(const T* products, T* out, TileShape shape,
                                            int64_t first, int64_t number, WinogradMask<T> mask) {
  constexpr int kWidth = device::kPacketWidth<T, Packet>;
  const int64_t plane = number * shape.depth();
  for (int64_t index = device::thread_index() * kWidth; index < plane;
       index += device::grid_threads() * kWidth) {
    const int64_t phased = index / shape.channels;
    const int64_t channel = index - phased * shape.channels;
    const TilePosition at =
        tile_position(shape, first + phased / shape.phases(), phased % shape.phases());
    const WinogradImage<T, Packet> image(out, shape, mask, at.image);
    WinogradPatch<T, Packet, step> patch{shape, image, at.y, at.x, channel};
    unsigned bits[step] = {};
    patch.read_bits(bits);
    Packet v[tile][tile];
#pragma unroll
    for (int i = 0; i < tile; ++i) {
#pragma unroll
      for (int j = 0; j < tile; ++j) {
        v[i][j] = device::load_packet<Packet>(products + (tile * i + j) * plane + index);
      }
      evaluate_transposed<tile, step, 1, T>(v[i]);
    }
#pragma unroll
    for (int j = 0; j < step; ++j) {
      evaluate_transposed<tile, step, tile, T>(&v[0][j]);
#pragma unroll
      for (int i = 0; i < step; ++i) patch.write(i, j, v[i][j], bits);
    }
  }
}

// Adds coefficients first, first + 1, ... of the columns of a tile, each interpolated.
template <int first, typename T, int tile, int step, typename Packet>
POLARITY_DEVICE void add_interpolated(const T* products, int64_t plane, Packet (&sum)[step][tile]) {
#pragma unroll
  for (int j = 0; j < tile; ++j) {
    Packet column[tile];
#pragma unroll
    for (int i = 0; i < tile; ++i) {
      column[i] = device::load_packet<Packet>(products + (tile * i + j) * plane);
    }
    interpolate<tile, 1, T>(column);
#pragma unroll
    for (int i = 0; i < step && first + i < tile; ++i) sum[i][j] += column[first + i];
  }
}

// Of a transposed convolution a tile reaches into the next one along either axis. A thread has the
// results of one phase and packet of channels in a row of tiles, or in what the last row reaches.
// It goes along the row with what the tile before reaches in registers; what the row above reaches
// it makes again, so that every result is written once.
template <typename T, typename Packet, int tile, int step>
POLARITY_GLOBAL void winograd_overlapping_pixels_kernel(const T* products, T* out, TileShape shape,
                                                        int64_t first, int64_t number,
                                                        WinogradMask<T> mask) {
  constexpr int kReach = tile - step, kWidth = device::kPacketWidth<T, Packet>;
  static_assert(kReach <= step);
  const int64_t depth = shape.depth(), plane = number * depth;
  const int64_t lines = number / shape.image_tiles() * (shape.y.tiles + 1);
  for (int64_t index = device::thread_index() * kWidth; index < lines * depth;
       index += device::grid_threads() * kWidth) {
    const int64_t line = index / depth, phased = index - line * depth;
    const int64_t phase = phased / shape.channels;
    const int64_t among = line / (shape.y.tiles + 1), y = line - among * (shape.y.tiles + 1);
    const TilePosition at{first / shape.image_tiles() + among,
                          shape.stride * step * y + shape.y.origin + phase / shape.stride,
                          shape.x.origin + phase % shape.stride};
    const WinogradImage<T, Packet> image(out, shape, mask, at.image);
    WinogradPatch<T, Packet, step> patch{shape, image, at.y, at.x, phased - phase * shape.channels};
    const int64_t above = shape.x.tiles * depth;  // from a tile to the one above
    const T* own = products + (among * shape.y.tiles + y) * above + phased;
    Packet reached[step][kReach] = {};
#pragma unroll 1  // several tiles at a time, or their addresses kept, would take all registers
    for (int64_t x = 0; x <= shape.x.tiles; ++x, own += depth) {
      patch.row = device::made_here(patch.row);
      unsigned bits[step] = {};
      patch.read_bits(bits);
      Packet v[step][tile] = {};
      if (x < shape.x.tiles && y < shape.y.tiles) {
        add_interpolated<0, T, tile>(own, device::made_here(plane), v);
      }
      if (x < shape.x.tiles && y > 0) {
        add_interpolated<step, T, tile>(own - above, device::made_here(plane), v);
      }
#pragma unroll
      for (int i = 0; i < step; ++i) {
        interpolate<tile, 1, T>(v[i]);
#pragma unroll
        for (int j = 0; j < kReach; ++j) {
          v[i][j] += reached[i][j];
          reached[i][j] = v[i][step + j];
        }
#pragma unroll
        for (int j = 0; j < step; ++j) patch.write(i, j, v[i][j], bits);
      }
      patch.column += shape.stride * step;
    }
  }
}

}  // namespace polarity
