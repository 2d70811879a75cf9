// G[b] = Y[b]^T Y[b] with double products and sums of float or double input. A float32 Gram
// matrix loses half the digits of every singular value, and the small ones altogether.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct GramShape {
  int64_t batch, rows, cols;                     // Y is [batch, rows, cols]
  int64_t stride_batch, stride_row, stride_col;  // in elements, any layout
};

constexpr int64_t kGramTile = 32;  // edge of a block of G, the unit of the workspace
// Rows summed apart, at most: rounding errors then grow with the square root of 256 + rows / 256
// instead of rows.
constexpr int64_t kGramChunk = 256;

// Blocks in the upper triangle of G.
POLARITY_HOST_DEVICE int64_t gram_tile_pairs(int64_t cols) {
  const int64_t tiles = (cols + kGramTile - 1) / kGramTile;
  return tiles * (tiles + 1) / 2;
}

// Pieces the rows are cut into. They depend on the shape alone, never on threads or devices, and
// are summed in order: the result is deterministic.
inline int64_t gram_splits(const GramShape& shape) {
  constexpr int64_t kEnoughTasks = 264;  // two blocks for each multiprocessor of an H100
  constexpr int64_t kLeastRows = 1024;
  const int64_t tasks = std::max<int64_t>(1, shape.batch * gram_tile_pairs(shape.cols));
  const int64_t wanted = (kEnoughTasks + tasks - 1) / tasks;
  return std::clamp<int64_t>((shape.rows + kLeastRows - 1) / kLeastRows, 1, wanted);
}

// Doubles of workspace: one G per batch element and split, whole tiles.
inline int64_t gram_workspace(const GramShape& shape) {
  return shape.batch * gram_splits(shape) * gram_tile_pairs(shape.cols) * kGramTile * kGramTile;
}

namespace cpu {
template <typename T>
void gram(const T* y, const GramShape& shape, double* workspace, double* out);
}
namespace cuda {
template <typename T>
void gram(const T* y, const GramShape& shape, double* workspace, double* out, void* stream);
}

}  // namespace polarity
