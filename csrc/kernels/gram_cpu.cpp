#include "gram.h"

#include <memory>

#include "double_columns.h"
#include "double_tiles.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kPanelBytes = 1 << 18;  // packed rows must stay in the second-level cache

// Of a cache: a vector that begins with one is loaded in one go.
constexpr int64_t kLine = 8;
struct alignas(64) Line {
  double number[kLine];
};

// Whether they are worked off along the rows; not by how they lie in memory, which no bit of the
// result depends on.
bool has_few_columns(const GramShape& shape) { return shape.cols <= kFewColumns; }

// Rows that are packed together.
int64_t packed_rows(const GramShape& shape, int64_t rows) {
  if (has_few_columns(shape)) return column_depth(rows);
  const int64_t padded = (shape.cols + kGramTile - 1) / kGramTile * kGramTile;
  return std::clamp<int64_t>(kPanelBytes / (padded * static_cast<int64_t>(sizeof(double))), 8,
                             kGramChunk);
}

// Doubles of memory for `depth` packed rows, and G itself where columns are few.
int64_t packed_room(const GramShape& shape, int64_t depth) {
  if (has_few_columns(shape)) return (depth + shape.cols) * shape.cols;
  return depth * ((shape.cols + kGramTile - 1) / kGramTile * kGramTile);
}

// Rows first .. last of one sample with few columns into the upper triangle of its tiles.
template <Isa isa, typename T>
POLARITY_INLINE void accumulate_few(const T* y, const GramShape& shape, int64_t first, int64_t last,
                                    double* packed, int64_t depth, double* tiles) {
  double* const cells = packed + depth * shape.cols;
  std::fill_n(cells, shape.cols * shape.cols, 0.0);
  for (int64_t start = first; start < last; start += depth) {
    pack_columns(y, shape, start, std::min(depth, last - start), depth, packed);
    add_products<isa>(packed, shape.cols, depth, cells);
  }
  for (int64_t i = 0; i < shape.cols; ++i) {
    for (int64_t j = i; j < shape.cols; ++j) tiles[gram_cell(i, j)] = cells[i * shape.cols + j];
  }
}

// Rows first .. last of one sample into its upper-triangular tiles.
template <Isa isa, typename T>
POLARITY_INLINE void accumulate(const T* y, const GramShape& shape, int64_t first, int64_t last,
                                double* packed, int64_t depth, double* tiles) {
  if (has_few_columns(shape)) {
    return accumulate_few<isa>(y, shape, first, last, packed, depth, tiles);
  }
  std::fill_n(tiles, gram_tile_pairs(shape.cols) * kGramTile * kGramTile, 0.0);
  for (int64_t start = first; start < last; start += depth) {
    const int64_t rows = std::min(depth, last - start);
    pack(y, shape, start, rows, packed);
    multiply_upper_tiles<isa>(packed, shape.cols, rows, tiles);
  }
}

template <Isa isa>
POLARITY_INLINE void accumulate_float_body(const float* y, const GramShape& shape, int64_t first,
                                           int64_t last, double* packed, int64_t depth,
                                           double* tiles) {
  accumulate<isa>(y, shape, first, last, packed, depth, tiles);
}
template <Isa isa>
POLARITY_INLINE void accumulate_double_body(const double* y, const GramShape& shape, int64_t first,
                                            int64_t last, double* packed, int64_t depth,
                                            double* tiles) {
  accumulate<isa>(y, shape, first, last, packed, depth, tiles);
}
POLARITY_ISA_VARIANTS(accumulate_float,
                      (const float* y, const GramShape& shape, int64_t first, int64_t last,
                       double* packed, int64_t depth, double* tiles),
                      (y, shape, first, last, packed, depth, tiles))
POLARITY_ISA_VARIANTS(accumulate_double,
                      (const double* y, const GramShape& shape, int64_t first, int64_t last,
                       double* packed, int64_t depth, double* tiles),
                      (y, shape, first, last, packed, depth, tiles))

void run(const float* y, const GramShape& shape, int64_t first, int64_t last, double* packed,
         int64_t depth, double* tiles) {
  accumulate_float(y, shape, first, last, packed, depth, tiles);
}
void run(const double* y, const GramShape& shape, int64_t first, int64_t last, double* packed,
         int64_t depth, double* tiles) {
  accumulate_double(y, shape, first, last, packed, depth, tiles);
}

// Sums the splits of one sample in order and writes both triangles.
void reduce(const double* partial, const GramShape& shape, int64_t splits, double* out) {
  const int64_t per_split = gram_tile_pairs(shape.cols) * kGramTile * kGramTile;
  for (int64_t j = 0; j < shape.cols; ++j) {
    for (int64_t i = 0; i <= j; ++i) {
      const int64_t cell = gram_cell(i, j);
      double sum = 0.0;
      for (int64_t split = 0; split < splits; ++split) {
        sum += partial[split * per_split + cell];
      }
      out[i * shape.cols + j] = sum;
      out[j * shape.cols + i] = sum;
    }
  }
}

}  // namespace

template <typename T>
void gram(const T* y, const GramShape& shape, double* workspace, double* out) {
  if (shape.batch * shape.cols == 0) return;
  const int64_t splits = gram_splits(shape, false);
  const int64_t rows_per_split = (shape.rows + splits - 1) / splits;
  const int64_t per_split = gram_tile_pairs(shape.cols) * kGramTile * kGramTile;
  const int64_t depth = packed_rows(shape, rows_per_split);

  parallel_for(shape.batch * splits, 1, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<Line[]> lines(new Line[(packed_room(shape, depth) + kLine - 1) / kLine]);
    double* const packed = lines[0].number;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % splits * rows_per_split;
      const int64_t last = std::min(first + rows_per_split, shape.rows);
      run(y + task / splits * shape.stride_batch, shape, first, last, packed, depth,
          workspace + task * per_split);
    }
  });
  parallel_for(shape.batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      reduce(workspace + b * splits * per_split, shape, splits, out + b * shape.cols * shape.cols);
    }
  });
}

template void gram<float>(const float*, const GramShape&, double*, double*);
template void gram<double>(const double*, const GramShape&, double*, double*);

}  // namespace polarity::cpu
