#pragma once

#include "../device/portability.cuh"
#include "winograd.h"

namespace polarity {

constexpr int kWinogradBlock = 256;

// One thread for each number at a place of the tiles. Neighbours in a warp have neighbouring
// channels of one tile, so that all accesses are coalesced; the tile is in registers.
template <typename T>
POLARITY_GLOBAL void winograd_tiles_kernel(const T* x, T* tiles, TileShape shape, int64_t first,
                                           int64_t count) {
  const int64_t plane = count * shape.depth();
  for (int64_t index = device::thread_index(); index < plane; index += device::grid_threads()) {
    const int64_t phased = index / shape.channels;
    const int64_t channel = index - phased * shape.channels;
    const TilePosition at =
        tile_position(shape, first + phased / shape.phases(), phased % shape.phases());
    T tile[kTile][kTile];
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      const int64_t row = at.y + i * shape.stride;
      const bool in_rows = row >= 0 && row < shape.y.pixels;
      const T* line = x + (at.image * shape.y.pixels + row) * shape.x.pixels * shape.channels;
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
        const int64_t column = at.x + j * shape.stride;
        const bool inside = in_rows && column >= 0 && column < shape.x.pixels;
        tile[i][j] = inside ? line[column * shape.channels + channel] : T(0);
      }
      to_points(tile[i][0], tile[i][1], tile[i][2], tile[i][3]);
    }
#pragma unroll
    for (int j = 0; j < kTile; ++j) {
      to_points(tile[0][j], tile[1][j], tile[2][j], tile[3][j]);
#pragma unroll
      for (int i = 0; i < kTile; ++i) tiles[(kTile * i + j) * plane + index] = tile[i][j];
    }
  }
}

template <typename T, int step>
POLARITY_GLOBAL void winograd_pixels_kernel(const T* products, T* out, TileShape shape,
                                            int64_t first, int64_t count) {
  const int64_t plane = count * shape.depth();
  for (int64_t index = device::thread_index(); index < plane; index += device::grid_threads()) {
    const int64_t phased = index / shape.channels;
    const int64_t channel = index - phased * shape.channels;
    const TilePosition at =
        tile_position(shape, first + phased / shape.phases(), phased % shape.phases());
    T tile[kTile][kTile];
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
#pragma unroll
      for (int j = 0; j < kTile; ++j) tile[i][j] = products[(kTile * i + j) * plane + index];
      from_points<step>(tile[i][0], tile[i][1], tile[i][2], tile[i][3]);
    }
#pragma unroll
    for (int j = 0; j < step; ++j) {
      from_points<step>(tile[0][j], tile[1][j], tile[2][j], tile[3][j]);
      const int64_t column = at.x + j * shape.stride;
#pragma unroll
      for (int i = 0; i < step; ++i) {
        const int64_t row = at.y + i * shape.stride;
        if (row < 0 || row >= shape.y.pixels || column < 0 || column >= shape.x.pixels) continue;
        const int64_t pixel = (at.image * shape.y.pixels + row) * shape.x.pixels + column;
        out[pixel * shape.channels + channel] = tile[i][j];
      }
    }
  }
}

}  // namespace polarity
