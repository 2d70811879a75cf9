#pragma once

#include "../device/portability.cuh"
#include "winograd.h"

namespace polarity {

constexpr int kWinogradBlock = 256;

// One thread for each number at a place of the tiles. Neighbours in a warp have neighbouring
// channels of one tile, so that all accesses are coalesced; the tile is in registers.
template <typename T, int tile>
POLARITY_GLOBAL void winograd_tiles_kernel(const T* x, T* tiles, TileShape shape, int64_t first,
                                           int64_t count) {
  const int64_t plane = count * shape.depth();
  for (int64_t index = device::thread_index(); index < plane; index += device::grid_threads()) {
    const int64_t phased = index / shape.channels;
    const int64_t channel = index - phased * shape.channels;
    const TilePosition at =
        tile_position(shape, first + phased / shape.phases(), phased % shape.phases());
    T v[tile][tile];
#pragma unroll
    for (int i = 0; i < tile; ++i) {
      const int64_t row = at.y + i * shape.stride;
      const bool in_rows = row >= 0 && row < shape.y.pixels;
      const T* line = x + (at.image * shape.y.pixels + row) * shape.x.pixels * shape.channels;
#pragma unroll
      for (int j = 0; j < tile; ++j) {
        const int64_t column = at.x + j * shape.stride;
        const bool inside = in_rows && column >= 0 && column < shape.x.pixels;
        v[i][j] = inside ? line[column * shape.channels + channel] : T(0);
      }
      to_points<tile, 1, T>(v[i]);
    }
#pragma unroll
    for (int j = 0; j < tile; ++j) {
      to_points<tile, tile, T>(&v[0][j]);
#pragma unroll
      for (int i = 0; i < tile; ++i) tiles[(tile * i + j) * plane + index] = v[i][j];
    }
  }
}

template <typename T, int tile, int step>
POLARITY_GLOBAL void winograd_pixels_kernel(const T* products, T* out, TileShape shape,
                                            int64_t first, int64_t count) {
  const int64_t plane = count * shape.depth();
  for (int64_t index = device::thread_index(); index < plane; index += device::grid_threads()) {
    const int64_t phased = index / shape.channels;
    const int64_t channel = index - phased * shape.channels;
    const TilePosition at =
        tile_position(shape, first + phased / shape.phases(), phased % shape.phases());
    T v[tile][tile];
#pragma unroll
    for (int i = 0; i < tile; ++i) {
#pragma unroll
      for (int j = 0; j < tile; ++j) v[i][j] = products[(tile * i + j) * plane + index];
      from_points<tile, step, 1, T>(v[i]);
    }
#pragma unroll
    for (int j = 0; j < step; ++j) {
      from_points<tile, step, tile, T>(&v[0][j]);
      const int64_t column = at.x + j * shape.stride;
#pragma unroll
      for (int i = 0; i < step; ++i) {
        const int64_t row = at.y + i * shape.stride;
        if (row < 0 || row >= shape.y.pixels || column < 0 || column >= shape.x.pixels) continue;
        const int64_t pixel = (at.image * shape.y.pixels + row) * shape.x.pixels + column;
        out[pixel * shape.channels + channel] = v[i][j];
      }
    }
  }
}

}  // namespace polarity
