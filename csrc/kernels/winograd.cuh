#pragma once

#include "../device/portability.cuh"
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

// Every second tile along either axis, from tile (odd_y, odd_x) on: of a transposed convolution
// tiles overlap with their neighbours, and four launches add them up, always in the same order.
struct EverySecond {
  int64_t odd_y, odd_x, rows, columns;
};

// One thread for each number of the results of a tile at one of its pixels.
template <typename T, int tile, int count>
POLARITY_GLOBAL void winograd_pixels_kernel(const T* products, T* out, TileShape shape,
                                            int64_t first, int64_t number, EverySecond part) {
  constexpr bool kAdds = count == tile;
  const int64_t plane = number * shape.depth();
  const int64_t images = number / shape.image_tiles();
  const int64_t work = kAdds ? images * part.rows * part.columns * shape.depth() : plane;
  for (int64_t thread = device::thread_index(); thread < work; thread += device::grid_threads()) {
    int64_t index = thread;
    if constexpr (kAdds) {
      const int64_t among = thread / shape.depth(), line = among / part.columns;
      const int64_t image = line / part.rows;
      const int64_t y = 2 * (line - image * part.rows) + part.odd_y;
      const int64_t x = 2 * (among - line * part.columns) + part.odd_x;
      const int64_t own = (image * shape.y.tiles + y) * shape.x.tiles + x;
      index = own * shape.depth() + thread % shape.depth();
    }
    const int64_t phased = index / shape.channels;
    const int64_t channel = index - phased * shape.channels;
    const TilePosition at =
        tile_position(shape, first + phased / shape.phases(), phased % shape.phases());
    T v[tile][tile];
#pragma unroll
    for (int i = 0; i < tile; ++i) {
#pragma unroll
      for (int j = 0; j < tile; ++j) v[i][j] = products[(tile * i + j) * plane + index];
      if constexpr (kAdds) {
        interpolate<tile, 1, T>(v[i]);
      } else {
        evaluate_transposed<tile, count, 1, T>(v[i]);
      }
    }
#pragma unroll
    for (int j = 0; j < count; ++j) {
      if constexpr (kAdds) {
        interpolate<tile, tile, T>(&v[0][j]);
      } else {
        evaluate_transposed<tile, count, tile, T>(&v[0][j]);
      }
      const int64_t column = at.x + j * shape.stride;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const int64_t row = at.y + i * shape.stride;
        if (row < 0 || row >= shape.y.pixels || column < 0 || column >= shape.x.pixels) continue;
        const int64_t pixel = (at.image * shape.y.pixels + row) * shape.x.pixels + column;
        T& place = out[pixel * shape.channels + channel];
        place = kAdds ? place + v[i][j] : v[i][j];
      }
    }
  }
}

}  // namespace polarity
