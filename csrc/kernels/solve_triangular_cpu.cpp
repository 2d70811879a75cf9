#include "solve_triangular.h"

#include <algorithm>
#include <vector>

#include "lanes.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kColumns = 4;  // of a tile in registers
// Vectors of rows in a tile: with kColumns, what the registers hold.
template <Isa isa>
constexpr int64_t kVectors = isa == Isa::avx512 ? 4 : 2;
constexpr int64_t kMostVectors = 4;
constexpr int64_t kStrip = 32;  // rows of a task: a strip of them for the widest registers
constexpr int64_t kStrips = 4;  // of a task, at least

int64_t padded(int64_t columns) { return (columns + kColumns - 1) / kColumns * kColumns; }

// Tiles of kColumns columns, each of all rows above its diagonal and the triangle on it; ones on
// the diagonal and zeros beside it in columns that are not there.
void pack(const double* r, const TriangularShape& shape, double* packed) {
  for (int64_t tile = 0; tile < padded(shape.columns); tile += kColumns) {
    for (int64_t row = 0; row < tile + kColumns; ++row) {
      for (int64_t column = tile; column < tile + kColumns; ++column) {
        const bool there = row <= column && column < shape.columns;
        *packed++ = there ? r[row * shape.r_row + column * shape.r_col] : row == column ? 1.0 : 0.0;
      }
    }
  }
}

// x, columns of kVectors vectors, becomes x R^-1.
template <Isa isa>
POLARITY_INLINE void solve(const double* packed, int64_t columns, Lanes<isa>* x) {
  using V = Lanes<isa>;
  constexpr int64_t kRows = kVectors<isa>;
  for (int64_t tile = 0; tile < columns; tile += kColumns) {
    V sum[kColumns][kRows];
    V* mine = x + tile * kRows;
    for (int64_t c = 0; c < kColumns; ++c) {
      for (int64_t v = 0; v < kRows; ++v) sum[c][v] = mine[c * kRows + v];
    }
    for (int64_t i = 0; i < tile; ++i, packed += kColumns) {
      for (int64_t c = 0; c < kColumns; ++c) {
        for (int64_t v = 0; v < kRows; ++v) sum[c][v] -= x[i * kRows + v] * packed[c];
      }
    }
    for (int64_t i = 0; i < kColumns; ++i, packed += kColumns) {
      for (int64_t v = 0; v < kRows; ++v) {
        const V solved = sum[i][v] / packed[i];
        mine[i * kRows + v] = solved;
        for (int64_t c = i + 1; c < kColumns; ++c) sum[c][v] -= solved * packed[c];
      }
    }
  }
}

// Rows begin .. end of one Y; beyond the last row of a strip stand zeros.
template <Isa isa, typename T>
POLARITY_INLINE void solve_rows(const T* y, const double* packed, const TriangularShape& shape,
                                int64_t begin, int64_t end, LaneMemory& memory, double* out) {
  constexpr int64_t kRows = kVectors<isa> * kLanes<isa>;
  double* x = reinterpret_cast<double*>(memory.get<isa>());
  for (int64_t first = begin; first < end; first += kRows) {
    const int64_t valid = std::min(kRows, end - first);
    std::fill_n(x, padded(shape.columns) * kRows, 0.0);
    for (int64_t column = 0; column < shape.columns; ++column) {
      const T* source = y + first * shape.stride_row + column * shape.stride_col;
      for (int64_t row = 0; row < valid; ++row) {
        x[column * kRows + row] = static_cast<double>(source[row * shape.stride_row]);
      }
    }
    solve<isa>(packed, padded(shape.columns), memory.get<isa>());
    for (int64_t row = 0; row < valid; ++row) {
      double* target = out + (first + row) * shape.columns;
      for (int64_t column = 0; column < shape.columns; ++column) {
        target[column] = x[column * kRows + row];
      }
    }
  }
}

template <Isa isa>
POLARITY_INLINE void solve_float_body(const float* y, const double* packed,
                                      const TriangularShape& shape, int64_t begin, int64_t end,
                                      LaneMemory& memory, double* out) {
  solve_rows<isa>(y, packed, shape, begin, end, memory, out);
}
template <Isa isa>
POLARITY_INLINE void solve_double_body(const double* y, const double* packed,
                                       const TriangularShape& shape, int64_t begin, int64_t end,
                                       LaneMemory& memory, double* out) {
  solve_rows<isa>(y, packed, shape, begin, end, memory, out);
}
POLARITY_ISA_VARIANTS(solve_float,
                      (const float* y, const double* packed, const TriangularShape& shape,
                       int64_t begin, int64_t end, LaneMemory& memory, double* out),
                      (y, packed, shape, begin, end, memory, out))
POLARITY_ISA_VARIANTS(solve_double,
                      (const double* y, const double* packed, const TriangularShape& shape,
                       int64_t begin, int64_t end, LaneMemory& memory, double* out),
                      (y, packed, shape, begin, end, memory, out))

void run(const float* y, const double* packed, const TriangularShape& shape, int64_t begin,
         int64_t end, LaneMemory& memory, double* out) {
  solve_float(y, packed, shape, begin, end, memory, out);
}
void run(const double* y, const double* packed, const TriangularShape& shape, int64_t begin,
         int64_t end, LaneMemory& memory, double* out) {
  solve_double(y, packed, shape, begin, end, memory, out);
}

}  // namespace

template <typename T>
void solve_triangular(const T* y, const double* r, const TriangularShape& shape, double* out) {
  if (shape.batch * shape.rows * shape.columns == 0) return;
  const int64_t width = padded(shape.columns);
  const int64_t tiles = width / kColumns;
  const int64_t strips = (shape.rows + kStrip - 1) / kStrip;
  parallel_for(shape.batch * strips, kStrips, [&](int64_t begin, int64_t end) {
    std::vector<double> packed(
        static_cast<size_t>(kColumns * kColumns * (tiles * (tiles + 1) / 2)));
    LaneMemory memory(width * kMostVectors);
    for (int64_t b = begin / strips; b * strips < end; ++b) {
      const int64_t first = std::max(begin - b * strips, int64_t{0}) * kStrip;
      const int64_t last = std::min((end - b * strips) * kStrip, shape.rows);
      pack(r + b * shape.r_batch, shape, packed.data());
      run(y + b * shape.stride_batch, packed.data(), shape, first, last, memory,
          out + b * shape.rows * shape.columns);
    }
  });
}

template void solve_triangular<float>(const float*, const double*, const TriangularShape&, double*);
template void solve_triangular<double>(const double*, const double*, const TriangularShape&,
                                       double*);

}  // namespace polarity::cpu
