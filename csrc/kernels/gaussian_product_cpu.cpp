#include "gaussian_product.h"

#include <algorithm>
#include <memory>

#include "double_tiles.h"
#include "gaussian.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kPanelBytes = 1 << 18;  // packed rows of Y must stay in the second-level cache
constexpr int64_t kCells = kGramTile * kGramTile;

// tiles[t] += omega^T times the t-th tile of columns of the rows first .. first + depth of one
// sample.
template <Isa isa, typename T>
POLARITY_INLINE void accumulate(const T* y, const GramShape& shape, const double* omega,
                                int64_t first, int64_t depth, double* packed, double* tiles) {
  pack(y, shape, first, depth, packed);
  for (int64_t start = 0; start < shape.cols; start += kGramTile) {
    const int64_t tile = start / kGramTile;
    multiply_tile<isa>(omega, packed + tile * depth * kGramTile, depth, kGramTile,
                       std::min(kGramTile, shape.cols - start), false, tiles + tile * kCells);
  }
}

template <Isa isa>
POLARITY_INLINE void accumulate_float_body(const float* y, const GramShape& shape,
                                           const double* omega, int64_t first, int64_t depth,
                                           double* packed, double* tiles) {
  accumulate<isa>(y, shape, omega, first, depth, packed, tiles);
}
template <Isa isa>
POLARITY_INLINE void accumulate_double_body(const double* y, const GramShape& shape,
                                            const double* omega, int64_t first, int64_t depth,
                                            double* packed, double* tiles) {
  accumulate<isa>(y, shape, omega, first, depth, packed, tiles);
}
POLARITY_ISA_VARIANTS(accumulate_float,
                      (const float* y, const GramShape& shape, const double* omega, int64_t first,
                       int64_t depth, double* packed, double* tiles),
                      (y, shape, omega, first, depth, packed, tiles))
POLARITY_ISA_VARIANTS(accumulate_double,
                      (const double* y, const GramShape& shape, const double* omega, int64_t first,
                       int64_t depth, double* packed, double* tiles),
                      (y, shape, omega, first, depth, packed, tiles))

void run(const float* y, const GramShape& shape, const double* omega, int64_t first, int64_t depth,
         double* packed, double* tiles) {
  accumulate_float(y, shape, omega, first, depth, packed, tiles);
}
void run(const double* y, const GramShape& shape, const double* omega, int64_t first, int64_t depth,
         double* packed, double* tiles) {
  accumulate_double(y, shape, omega, first, depth, packed, tiles);
}

// omega[d][r] = Omega[first_row + r, first + d] for a tile of rows; those beyond the last one are
// numbers of the stream, too, and reach only cells that nobody reads.
void make_omega(const GaussianRows& rows, int64_t columns, int64_t first_row, int64_t first,
                int64_t depth, double* omega) {
  float numbers[kGramChunk];
  for (int64_t r = 0; r < kGramTile; ++r) {
    const auto place = static_cast<uint64_t>((first_row + r) * columns + first);
    gaussian(rows.seed, rows.offset + place, numbers, depth);
    for (int64_t d = 0; d < depth; ++d) omega[d * kGramTile + r] = static_cast<double>(numbers[d]);
  }
}

}  // namespace

template <typename T>
void gaussian_product(const T* y, const GramShape& shape, const GaussianRows& rows, double* out) {
  if (shape.batch * shape.cols * rows.count == 0) return;
  const int64_t row_tiles = (rows.count + kGramTile - 1) / kGramTile;
  const int64_t column_tiles = (shape.cols + kGramTile - 1) / kGramTile;
  const int64_t padded = column_tiles * kGramTile;
  const int64_t depth = std::clamp<int64_t>(
      kPanelBytes / (padded * static_cast<int64_t>(sizeof(double))), 8, kGramChunk);
  // A block of Omega serves some samples together, all of them where that leaves work for
  // everybody.
  constexpr int64_t kTasks = 64, kMostSamples = 64;
  const int64_t together = std::clamp<int64_t>(shape.batch * row_tiles / kTasks, 1, kMostSamples);
  const int64_t groups = (shape.batch + together - 1) / together;

  parallel_for(row_tiles * groups, 1, [&](int64_t begin, int64_t end) {
    const int64_t per_sample = column_tiles * kCells;
    const auto doubles = [](int64_t count) {
      return std::make_unique<double[]>(static_cast<size_t>(count));
    };
    const auto omega = doubles(depth * kGramTile), packed = doubles(depth * padded);
    const auto tiles = doubles(together * per_sample);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first_row = task / groups * kGramTile;
      const int64_t first_sample = task % groups * together;
      const int64_t samples = std::min(together, shape.batch - first_sample);
      std::fill_n(tiles.get(), samples * per_sample, 0.0);
      for (int64_t start = 0; start < shape.rows; start += depth) {
        const int64_t count = std::min(depth, shape.rows - start);
        make_omega(rows, shape.rows, first_row, start, count, omega.get());
        for (int64_t b = 0; b < samples; ++b) {
          run(y + (first_sample + b) * shape.stride_batch, shape, omega.get(), start, count,
              packed.get(), tiles.get() + b * per_sample);
        }
      }
      const int64_t height = std::min(kGramTile, rows.count - first_row);
      for (int64_t b = 0; b < samples; ++b) {
        double* target = out + ((first_sample + b) * rows.count + first_row) * shape.cols;
        for (int64_t r = 0; r < height; ++r) {
          for (int64_t c = 0; c < shape.cols; ++c) {
            const int64_t cell = c / kGramTile * kCells + r * kGramTile + c % kGramTile;
            target[r * shape.cols + c] = tiles[b * per_sample + cell];
          }
        }
      }
    }
  });
}

template void gaussian_product<float>(const float*, const GramShape&, const GaussianRows&, double*);
template void gaussian_product<double>(const double*, const GramShape&, const GaussianRows&,
                                       double*);

}  // namespace polarity::cpu
