// Products of packed tiles in double precision, 32 numbers wide: what gram and gaussian_product
// share on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu_isa.h"
#include "gram.h"

namespace polarity::cpu {

// Where G[i, j], i <= j, lies in tiles of the upper triangle.
inline int64_t gram_cell(int64_t i, int64_t j) {
  const int64_t column = j / kGramTile;
  const int64_t pair = column * (column + 1) / 2 + i / kGramTile;
  return (pair * kGramTile + i % kGramTile) * kGramTile + j % kGramTile;
}

// The registers of an instruction set, and how many rows of accumulators, two vectors wide, they
// hold beside the operands.
template <Isa isa>
struct Micro;
template <>
struct Micro<Isa::avx512> {
  typedef double Vector __attribute__((vector_size(64), aligned(8)));
  static constexpr int rows = 8;
};
template <>
struct Micro<Isa::avx2> {
  typedef double Vector __attribute__((vector_size(32), aligned(8)));
  static constexpr int rows = 4;
};
template <>
struct Micro<Isa::baseline> {
  typedef double Vector __attribute__((vector_size(16), aligned(8)));
  static constexpr int rows = 4;
};

// tile[0 .. rows][0 .. vectors] += a^T c over `depth` packed rows, summed apart before they join.
template <Isa isa, int vectors>
POLARITY_INLINE void multiply_micro(const double* a, const double* c, int64_t depth, double* tile) {
  using Vector = typename Micro<isa>::Vector;
  constexpr int kRows = Micro<isa>::rows;
  constexpr int kWidth = sizeof(Vector) / sizeof(double);
  Vector sum[kRows][vectors] = {};
  for (int64_t row = 0; row < depth; ++row, a += kGramTile, c += kGramTile) {
    for (int64_t v = 0; v < vectors; ++v) {
      const Vector column = *reinterpret_cast<const Vector*>(c + v * kWidth);
      for (int r = 0; r < kRows; ++r) {
        sum[r][v] += a[r] * column;
      }
    }
  }
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t v = 0; v < vectors; ++v) {
      *reinterpret_cast<Vector*>(tile + r * kGramTile + v * kWidth) += sum[r][v];
    }
  }
}

// tile += a^T c; a and c are packed tiles with `rows` and `columns` columns of Y in use. Of a tile
// on the diagonal only what reaches the upper triangle is formed.
template <Isa isa>
POLARITY_INLINE void multiply_tile(const double* a, const double* c, int64_t depth, int64_t rows,
                                   int64_t columns, bool diagonal, double* tile) {
  constexpr int64_t kWidth = sizeof(typename Micro<isa>::Vector) / sizeof(double);
  for (int64_t i = 0; i < rows; i += Micro<isa>::rows) {
    int64_t j = diagonal ? i / kWidth * kWidth : 0;
    for (; j + kWidth < columns; j += 2 * kWidth) {
      multiply_micro<isa, 2>(a + i, c + j, depth, tile + i * kGramTile + j);
    }
    if (j < columns) {
      multiply_micro<isa, 1>(a + i, c + j, depth, tile + i * kGramTile + j);
    }
  }
}

// tiles += Y^T Y, the upper-triangular ones, by `depth` packed rows of `cols` columns.
template <Isa isa>
POLARITY_INLINE void multiply_upper_tiles(const double* packed, int64_t cols, int64_t depth,
                                          double* tiles) {
  double* tile = tiles;
  for (int64_t column = 0; column * kGramTile < cols; ++column) {
    const int64_t columns = std::min(kGramTile, cols - column * kGramTile);
    for (int64_t row = 0; row <= column; ++row, tile += kGramTile * kGramTile) {
      multiply_tile<isa>(packed + row * depth * kGramTile, packed + column * depth * kGramTile,
                         depth, row < column ? kGramTile : columns, columns, row == column, tile);
    }
  }
}

// packed[tile][row][lane] = Y[first + row, tile * 32 + lane] as double. Lanes beyond the columns
// keep what they held: they only reach cells of G's tiles that nobody reads.
template <typename T>
POLARITY_INLINE void pack(const T* y, const GramShape& shape, int64_t first, int64_t depth,
                          double* packed) {
  const int64_t tiles = (shape.cols + kGramTile - 1) / kGramTile;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    double* target = packed + tile * depth * kGramTile;
    const int64_t width = std::min(kGramTile, shape.cols - tile * kGramTile);
    const T* source = y + first * shape.stride_row + tile * kGramTile * shape.stride_col;
    if (shape.stride_col == 1) {
      for (int64_t row = 0; row < depth; ++row) {
        for (int64_t lane = 0; lane < width; ++lane) {
          target[row * kGramTile + lane] =
              static_cast<double>(source[row * shape.stride_row + lane]);
        }
      }
      continue;
    }
    // Probe-major tangents: rows are adjacent in memory. Some rows at a time, so that a cache line
    // of the source is used up before the next column is fetched.
    constexpr int64_t kRows = 8;
    for (int64_t row = 0; row < depth; row += kRows) {
      const int64_t rows = std::min(kRows, depth - row);
      for (int64_t lane = 0; lane < width; ++lane) {
        const T* column = source + row * shape.stride_row + lane * shape.stride_col;
        for (int64_t r = 0; r < rows; ++r) {
          target[(row + r) * kGramTile + lane] = static_cast<double>(column[r * shape.stride_row]);
        }
      }
    }
  }
}

}  // namespace polarity::cpu
