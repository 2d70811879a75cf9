// Gram matrices of one sample's tangents behind one more layer, from those of its active units:
// what layer_gram and mlp_gram share on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cpu_vector.h"
#include "double_columns.h"
#include "double_tiles.h"
#include "layer_gram.h"

namespace polarity::cpu {

constexpr int64_t kLayerBytes = 1 << 18;  // packed rows must stay in the second-level cache
constexpr int64_t kCells = kGramTile * kGramTile;

inline int64_t tiles_of(int64_t count) { return (count + kGramTile - 1) / kGramTile; }

// Memory that grows.
class Doubles {
 public:
  double* get(int64_t count) {
    if (count > room_) {
      numbers_.reset(new double[count]());
      room_ = count;
    }
    return numbers_.get();
  }

 private:
  std::unique_ptr<double[]> numbers_;
  int64_t room_ = 0;
};

// What one thread needs. Packed numbers are [tile][row][32], as of gram, but those of few columns.
struct LayerWorkspace {
  std::vector<int64_t> active;
  Doubles tangents;  // X: a row for each active unit
  Doubles packed;    // rows of A, its columns the active units
  Doubles cells;     // of A^T A, the upper triangle
  Doubles square;    // A^T A
  Doubles product;   // A^T A X
};

// The sum of the squares of `probes` packed columns with `count` rows.
POLARITY_INLINE double sum_of_squares(const double* packed, int64_t count, int64_t probes) {
  double sums[kGramTile] = {};
  for (int64_t first = 0; first < probes; first += kGramTile) {
    const int64_t width = std::min(kGramTile, probes - first);
    for (int64_t k = 0; k < count; ++k, packed += kGramTile) {
      for (int64_t lane = 0; lane < width; ++lane) sums[lane] += packed[lane] * packed[lane];
    }
  }
  return std::accumulate(sums, sums + kGramTile, 0.0);
}

// packed[k][row] = rows first .. first + rows of diag(factor) W, its columns the active units;
// zeros from `rows` to `depth`. Where a column does not lie in one piece of memory, some rows at a
// time: their active units, then the next rows.
template <typename T>
POLARITY_INLINE void pack_columns(const T* weight, const T* factor, const LayerGramShape& shape,
                                  const std::vector<int64_t>& active, int64_t first, int64_t rows,
                                  int64_t depth, double* packed) {
  constexpr int64_t kRows = 8;
  const auto count = static_cast<int64_t>(active.size());
  const int64_t* const unit = active.data();
  const T* const scale = factor + first;
  const T* const from = weight + first * shape.weight_output;
  if (shape.weight_output == 1) {
    for (int64_t k = 0; k < count; ++k) {
      const T* const column = from + unit[k] * shape.weight_unit;
      for (int64_t r = 0; r < rows; ++r) {
        packed[k * depth + r] = static_cast<double>(scale[r]) * static_cast<double>(column[r]);
      }
    }
  } else {
    for (int64_t start = 0; start < rows; start += kRows) {
      const int64_t end = std::min(start + kRows, rows);
      for (int64_t k = 0; k < count; ++k) {
        const T* const column = from + unit[k] * shape.weight_unit;
        for (int64_t r = start; r < end; ++r) {
          packed[k * depth + r] =
              static_cast<double>(scale[r]) * static_cast<double>(column[r * shape.weight_output]);
        }
      }
    }
  }
  for (int64_t k = 0; k < count; ++k) {
    std::fill(packed + k * depth + rows, packed + (k + 1) * depth, 0.0);
  }
}

// Rows first .. first + depth of diag(factor) W, their columns the active units. Where a column of
// W lies in one piece of memory, squares are transposed in registers.
template <Isa isa, typename T>
POLARITY_INLINE void pack_rows(const T* weight, const T* factor, const LayerGramShape& shape,
                               const std::vector<int64_t>& active, int64_t first, int64_t depth,
                               double* packed) {
  constexpr int64_t kWidth = VectorOf<isa, double>::kWidth;
  const auto count = static_cast<int64_t>(active.size());
  for (int64_t next = 0; next < count; next += kWidth) {
    const auto unit = [&](int64_t k) { return active[std::min(next + k, count - 1)]; };
    for (int64_t start = 0; start < depth; start += kWidth) {
      const int64_t rows = std::min(kWidth, depth - start);
      const T* const from = weight + (first + start) * shape.weight_output;
      const T* const scale = factor + first + start;
      double* const to = packed + (next / kGramTile * depth + start) * kGramTile + next % kGramTile;
      if constexpr (std::is_same_v<T, double>) {
        if (shape.weight_output == 1 && rows == kWidth) {
          transpose_square<isa, double>([&](int k) { return from + unit(k) * shape.weight_unit; },
                                        to, kGramTile);
          for (int64_t r = 0; r < rows; ++r) {
            *reinterpret_cast<Vector<isa, double>*>(to + r * kGramTile) *= scale[r];
          }
          continue;
        }
      }
      for (int64_t k = 0; k < std::min(kWidth, count - next); ++k) {
        const T* const column = from + unit(k) * shape.weight_unit;
        for (int64_t r = 0; r < rows; ++r) {
          to[r * kGramTile + k] =
              static_cast<double>(scale[r]) * static_cast<double>(column[r * shape.weight_output]);
        }
      }
    }
  }
}

// Both triangles of a matrix, packed, from cell(i, j) with i <= j; returns the trace.
template <class Cell>
POLARITY_INLINE double unfold(const Cell& cell, int64_t count, double* packed) {
  double trace = 0.0;
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t i = 0; i <= j; ++i) {
      const double number = cell(i, j);
      packed[(j / kGramTile * count + i) * kGramTile + j % kGramTile] = number;
      packed[(i / kGramTile * count + j) * kGramTile + i % kGramTile] = number;
    }
    trace += cell(j, j);
  }
  return trace;
}

// A^T A of the active units, packed; returns its trace.
template <Isa isa, typename T>
POLARITY_INLINE double multiply_layer(const T* weight, const T* factor, const LayerGramShape& shape,
                                      LayerWorkspace& work, double* square) {
  const auto count = static_cast<int64_t>(work.active.size());
  if (count <= kFewColumns) {
    const int64_t depth = column_depth(shape.outputs);
    double* const packed = work.packed.get(count * depth);
    double* const cells = work.cells.get(count * count);
    std::fill_n(cells, count * count, 0.0);
    for (int64_t first = 0; first < shape.outputs; first += depth) {
      pack_columns(weight, factor, shape, work.active, first,
                   std::min(depth, shape.outputs - first), depth, packed);
      add_products<isa>(packed, count, depth, cells);
    }
    return unfold([&](int64_t i, int64_t j) { return cells[i * count + j]; }, count, square);
  }
  const int64_t down = tiles_of(count);
  const int64_t depth = std::clamp<int64_t>(
      kLayerBytes / (down * kGramTile * static_cast<int64_t>(sizeof(double))), 8, kGramChunk);
  double* const packed = work.packed.get(down * depth * kGramTile);
  double* const cells = work.cells.get(gram_tile_pairs(count) * kCells);
  std::fill_n(cells, gram_tile_pairs(count) * kCells, 0.0);
  for (int64_t first = 0; first < shape.outputs; first += depth) {
    const int64_t rows = std::min(depth, shape.outputs - first);
    pack_rows<isa>(weight, factor, shape, work.active, first, rows, packed);
    multiply_upper_tiles<isa>(packed, count, rows, cells);
  }
  return unfold([&](int64_t i, int64_t j) { return cells[gram_cell(i, j)]; }, count, square);
}

// One sample, whose tangents of active units are packed.
template <Isa isa, typename T>
POLARITY_INLINE void multiply_sample(const T* weight, const T* factor, const LayerGramShape& shape,
                                     LayerWorkspace& work, double* out, double* size) {
  const auto count = static_cast<int64_t>(work.active.size());
  const int64_t across = tiles_of(shape.probes), down = tiles_of(count);
  double* const tangents = work.tangents.get(across * count * kGramTile);
  double* const square = work.square.get(down * count * kGramTile);
  *size = multiply_layer<isa>(weight, factor, shape, work, square) *
          sum_of_squares(tangents, count, shape.probes);

  // Tiles below each other are one piece of memory, rows of whole tiles.
  const int64_t height = down * kGramTile;
  double* const product = work.product.get(across * height * kGramTile);
  std::fill_n(product, across * height * kGramTile, 0.0);
  double cell[kCells];
  for (int64_t j = 0; j < across; ++j) {
    const int64_t columns = std::min(kGramTile, shape.probes - j * kGramTile);
    const double* const right = tangents + j * count * kGramTile;
    double* const found = product + j * height * kGramTile;
    for (int64_t i = 0; i < down; ++i) {
      multiply_tile<isa>(square + i * count * kGramTile, right, count,
                         std::min(kGramTile, count - i * kGramTile), columns, false,
                         found + i * kCells);
    }
    for (int64_t i = 0; i <= j; ++i) {
      std::fill_n(cell, kCells, 0.0);
      multiply_tile<isa>(tangents + i * count * kGramTile, found, count,
                         i < j ? kGramTile : columns, columns, i == j, cell);
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t column = j * kGramTile + c;
        for (int64_t r = 0; r < kGramTile && i * kGramTile + r <= column; ++r) {
          const int64_t row = i * kGramTile + r;
          out[row * shape.probes + column] = out[column * shape.probes + row] =
              cell[r * kGramTile + c];
        }
      }
    }
  }
}

}  // namespace polarity::cpu
