// Products of a few columns in double precision, along their rows: where blocks of 32 columns would
// be mostly empty.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "gram.h"

namespace polarity::cpu {

constexpr int64_t kFewColumns = 64;  // from here on tiles of columns are as good

// Rows that are packed together, at most, which a vector's lanes share: a few columns of them stay
// in the first-level cache.
constexpr int64_t kColumnRows = 512;

// Rows packed together of `rows`: equal parts, of whole vectors of any instruction set.
inline int64_t column_depth(int64_t rows) {
  constexpr int64_t kWidest = 8;
  const int64_t parts = std::max<int64_t>(1, (rows + kColumnRows - 1) / kColumnRows);
  return ((rows + parts - 1) / parts + kWidest - 1) / kWidest * kWidest;
}

// Columns on either side of the products that registers hold, beside their operands.
template <Isa isa>
constexpr int kSide = isa == Isa::avx512 ? 4 : 3;

// packed[column][row] = Y[first + row, column] as double, in whatever layout Y lies; zeros from
// `rows` to `depth`.
template <typename T>
POLARITY_INLINE void pack_columns(const T* y, const GramShape& shape, int64_t first, int64_t rows,
                                  int64_t depth, double* packed) {
  const T* const source = y + first * shape.stride_row;
  if (shape.stride_row == 1) {
    for (int64_t column = 0; column < shape.cols; ++column) {
      const T* const from = source + column * shape.stride_col;
      double* const to = packed + column * depth;
      for (int64_t row = 0; row < rows; ++row) to[row] = static_cast<double>(from[row]);
    }
  } else {
    for (int64_t row = 0; row < rows; ++row) {
      const T* const from = source + row * shape.stride_row;
      for (int64_t column = 0; column < shape.cols; ++column) {
        packed[column * depth + row] = static_cast<double>(from[column * shape.stride_col]);
      }
    }
  }
  for (int64_t column = 0; column < shape.cols; ++column) {
    std::fill(packed + column * depth + rows, packed + (column + 1) * depth, 0.0);
  }
}

// cells[i * pitch + j] += products of the columns a + i and c + j; on the diagonal, where a is c,
// of those with i <= j. Lanes are summed apart before they join.
template <Isa isa, int rows, int columns, bool diagonal>
POLARITY_INLINE void multiply_block(const double* a, const double* c, int64_t depth, double* cells,
                                    int64_t pitch) {
  using V = Vector<isa, double>;
  constexpr int kWidth = VectorOf<isa, double>::kWidth;
  constexpr int kVectors = (rows * columns + kWidth - 1) / kWidth;
  V sum[kVectors * kWidth];
#pragma GCC unroll 16
  for (V& number : sum) number = V{};
  for (int64_t k = 0; k < depth; k += kWidth) {
    V right[columns];
#pragma GCC unroll 4
    for (int j = 0; j < columns; ++j) right[j] = *reinterpret_cast<const V*>(c + j * depth + k);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const V left = *reinterpret_cast<const V*>(a + i * depth + k);
#pragma GCC unroll 4
      for (int j = diagonal ? i : 0; j < columns; ++j) sum[i * columns + j] += left * right[j];
    }
  }
  double joined[kVectors * kWidth];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    *reinterpret_cast<V*>(joined + v * kWidth) = lane_sums<isa, double>(sum + v * kWidth);
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int j = diagonal ? i : 0; j < columns; ++j)
      cells[i * pitch + j] += joined[i * columns + j];
  }
}

// The same for `count` columns of c, at most kSide; of a there are as many on the diagonal, else
// kSide.
template <Isa isa, bool diagonal, int columns = kSide<isa>>
POLARITY_INLINE void multiply_few(int64_t count, const double* a, const double* c, int64_t depth,
                                  double* cells, int64_t pitch) {
  if (count == columns) {
    multiply_block<isa, diagonal ? columns : kSide<isa>, columns, diagonal>(a, c, depth, cells,
                                                                            pitch);
  } else if constexpr (columns > 1) {
    multiply_few<isa, diagonal, columns - 1>(count, a, c, depth, cells, pitch);
  }
}

// cells[i * columns + j] += Y^T Y over `depth` rows of packed columns, the upper triangle.
template <Isa isa>
POLARITY_INLINE void add_products(const double* packed, int64_t columns, int64_t depth,
                                  double* cells) {
  constexpr int64_t kStep = kSide<isa>;
  for (int64_t j = 0; j < columns; j += kStep) {
    const double* const c = packed + j * depth;
    const int64_t count = std::min(kStep, columns - j);
    for (int64_t i = 0; i < j; i += kStep) {
      multiply_few<isa, false>(count, packed + i * depth, c, depth, cells + i * columns + j,
                               columns);
    }
    multiply_few<isa, true>(count, c, c, depth, cells + j * columns + j, columns);
  }
}

}  // namespace polarity::cpu
