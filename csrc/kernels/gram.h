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

// Columns of Y that a block of threads of a GPU has on either side: two tiles.
constexpr int64_t kGramSide = 2 * kGramTile;

// Pieces the rows are cut into. They depend on the shape alone, never on threads or the model of a
// device, and are summed in order: the result is deterministic. A GPU needs more of them.
inline int64_t gram_splits(const GramShape& shape, bool on_gpu) {
  const int64_t enough = on_gpu ? 1024 : 264, least_rows = on_gpu ? 2 * kGramChunk : 1024;
  const int64_t sides = (shape.cols + kGramSide - 1) / kGramSide;
  const int64_t pairs = on_gpu ? sides * (sides + 1) / 2 : gram_tile_pairs(shape.cols);
  const int64_t tasks = std::max<int64_t>(1, shape.batch * pairs);
  const int64_t wanted = (enough + tasks - 1) / tasks;
  return std::clamp<int64_t>((shape.rows + least_rows - 1) / least_rows, 1, wanted);
}

// Rows of each piece, but for the last ones, on a GPU: whole chunks.
POLARITY_HOST_DEVICE int64_t gram_share(const GramShape& shape, int64_t splits) {
  const int64_t chunks = (shape.rows + kGramChunk - 1) / kGramChunk;
  return (chunks + splits - 1) / splits * kGramChunk;
}

// Doubles of workspace: one G per batch element and split, whole tiles.
inline int64_t gram_workspace(const GramShape& shape, bool on_gpu) {
  return shape.batch * gram_splits(shape, on_gpu) * gram_tile_pairs(shape.cols) * kGramTile *
         kGramTile;
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
