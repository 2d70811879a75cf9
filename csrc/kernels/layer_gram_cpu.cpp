#include "layer_gram.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "cpu_vector.h"
#include "double_tiles.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kPanelBytes = 1 << 18;  // packed rows must stay in the second-level cache
constexpr int64_t kCells = kGramTile * kGramTile;

int64_t tiles_of(int64_t count) { return (count + kGramTile - 1) / kGramTile; }

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

// What one thread needs. Packed numbers are [tile][row][32], as of gram.
template <typename T>
struct Workspace {
  std::vector<T> is_active;  // one where a unit is, else zero
  std::vector<int64_t> active;
  std::vector<double> squares;  // of the tangents of an active unit
  Doubles tangents;             // X: a row for each active unit
  Doubles rows;                 // of A, its columns the active units
  Doubles tiles;                // of A^T A, upper triangle
  Doubles square;               // A^T A
  Doubles product;              // A^T A X
};

// Units that are not zero for all probes, in order.
template <typename T>
POLARITY_INLINE void find_active(const T* x, const LayerGramShape& shape, Workspace<T>& work) {
  work.is_active.assign(static_cast<size_t>(shape.units), T(0));
  T* const is_active = work.is_active.data();
  for (int64_t l = 0; l < shape.probes; ++l) {
    const T* const row = x + l * shape.x_probe;
    for (int64_t u = 0; u < shape.units; ++u) is_active[u] = row[u] != T(0) ? T(1) : is_active[u];
  }
  work.active.clear();
  for (int64_t u = 0; u < shape.units; ++u) {
    if (is_active[u] != T(0)) work.active.push_back(u);
  }
}

// The tangents of active units; returns the sum of their squares.
template <typename T>
POLARITY_INLINE double pack_tangents(const T* x, const LayerGramShape& shape, Workspace<T>& work,
                                     double* packed) {
  const auto count = static_cast<int64_t>(work.active.size());
  work.squares.assign(work.active.size(), 0.0);
  for (int64_t l = 0; l < shape.probes; ++l) {
    const T* const row = x + l * shape.x_probe;
    double* const column = packed + l / kGramTile * count * kGramTile + l % kGramTile;
    for (int64_t k = 0; k < count; ++k) {
      const auto number = static_cast<double>(row[work.active[k]]);
      column[k * kGramTile] = number;
      work.squares[k] += number * number;
    }
  }
  return std::accumulate(work.squares.begin(), work.squares.end(), 0.0);
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

// Both triangles of upper-triangular tiles, packed; returns the trace.
POLARITY_INLINE double unfold(const double* tiles, int64_t count, double* packed) {
  double trace = 0.0;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t column = j / kGramTile;
    for (int64_t i = 0; i <= j; ++i) {
      const int64_t pair = column * (column + 1) / 2 + i / kGramTile;
      const double number = tiles[pair * kCells + i % kGramTile * kGramTile + j % kGramTile];
      packed[(column * count + i) * kGramTile + j % kGramTile] = number;
      packed[(i / kGramTile * count + j) * kGramTile + i % kGramTile] = number;
      if (i == j) trace += number;
    }
  }
  return trace;
}

// One sample.
template <Isa isa, typename T>
POLARITY_INLINE void sample(const T* x, const T* weight, const T* factor,
                            const LayerGramShape& shape, Workspace<T>& work, double* out,
                            double* size) {
  find_active(x, shape, work);
  const auto count = static_cast<int64_t>(work.active.size());
  const int64_t across = tiles_of(shape.probes), down = tiles_of(count);
  double* const tangents = work.tangents.get(across * count * kGramTile);
  const double squares = pack_tangents(x, shape, work, tangents);

  const int64_t depth = std::clamp<int64_t>(
      kPanelBytes / (std::max<int64_t>(1, down) * kGramTile * static_cast<int64_t>(sizeof(double))),
      8, kGramChunk);
  double* const rows = work.rows.get(down * depth * kGramTile);
  double* const tiles = work.tiles.get(gram_tile_pairs(count) * kCells);
  std::fill_n(tiles, gram_tile_pairs(count) * kCells, 0.0);
  for (int64_t first = 0; first < shape.outputs; first += depth) {
    const int64_t height = std::min(depth, shape.outputs - first);
    pack_rows<isa>(weight, factor, shape, work.active, first, height, rows);
    multiply_upper_tiles<isa>(rows, count, height, tiles);
  }
  double* const square = work.square.get(down * count * kGramTile);
  *size = unfold(tiles, count, square) * squares;

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

template <Isa isa, typename T>
POLARITY_INLINE void samples(const T* x, const T* weight, const T* factor,
                             const LayerGramShape& shape, int64_t begin, int64_t end, double* out,
                             double* size) {
  Workspace<T> work;
  for (int64_t b = begin; b < end; ++b) {
    sample<isa>(x + b * shape.x_batch, weight, factor + b * shape.outputs, shape, work,
                out + b * shape.probes * shape.probes, size + b);
  }
}

template <Isa isa>
POLARITY_INLINE void samples_float_body(const float* x, const float* weight, const float* factor,
                                        const LayerGramShape& shape, int64_t begin, int64_t end,
                                        double* out, double* size) {
  samples<isa>(x, weight, factor, shape, begin, end, out, size);
}
template <Isa isa>
POLARITY_INLINE void samples_double_body(const double* x, const double* weight,
                                         const double* factor, const LayerGramShape& shape,
                                         int64_t begin, int64_t end, double* out, double* size) {
  samples<isa>(x, weight, factor, shape, begin, end, out, size);
}
POLARITY_ISA_VARIANTS(samples_float,
                      (const float* x, const float* weight, const float* factor,
                       const LayerGramShape& shape, int64_t begin, int64_t end, double* out,
                       double* size),
                      (x, weight, factor, shape, begin, end, out, size))
POLARITY_ISA_VARIANTS(samples_double,
                      (const double* x, const double* weight, const double* factor,
                       const LayerGramShape& shape, int64_t begin, int64_t end, double* out,
                       double* size),
                      (x, weight, factor, shape, begin, end, out, size))

void run(const float* x, const float* weight, const float* factor, const LayerGramShape& shape,
         int64_t begin, int64_t end, double* out, double* size) {
  samples_float(x, weight, factor, shape, begin, end, out, size);
}
void run(const double* x, const double* weight, const double* factor, const LayerGramShape& shape,
         int64_t begin, int64_t end, double* out, double* size) {
  samples_double(x, weight, factor, shape, begin, end, out, size);
}

}  // namespace

template <typename T>
void layer_gram(const T* x, const T* weight, const T* factor, const LayerGramShape& shape,
                double* out, double* size) {
  parallel_for(shape.batch, 1, [&](int64_t begin, int64_t end) {
    run(x, weight, factor, shape, begin, end, out, size);
  });
}

template void layer_gram<float>(const float*, const float*, const float*, const LayerGramShape&,
                                double*, double*);
template void layer_gram<double>(const double*, const double*, const double*, const LayerGramShape&,
                                 double*, double*);

}  // namespace polarity::cpu
