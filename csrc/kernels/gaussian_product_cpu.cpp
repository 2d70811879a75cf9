#include "gaussian_product.h"

#include <algorithm>
#include <memory>

#include "double_tiles.h"
#include "gaussian.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kPanelBytes = 1 << 18;  // packed rows must stay in the second-level cache
constexpr int64_t kRowTiles = 4;          // of Omega that are multiplied together
constexpr int64_t kCells = kGramTile * kGramTile;

// One block of Omega, [row tile][depth][32], and what it is multiplied with at a time.
struct OmegaBlock {
  const double* numbers;
  int64_t row_tiles, first, depth;  // it stands for the columns first .. first + depth of Omega
};

// tiles[row tile][column tile] += the block times the same rows of one sample, which are packed
// once for all of its row tiles.
template <Isa isa, typename T>
POLARITY_INLINE void accumulate(const T* y, const GramShape& shape, const OmegaBlock& omega,
                                double* packed, double* tiles) {
  const int64_t size = omega.depth * kGramTile;
  pack(y, shape, omega.first, omega.depth, packed);
  double* tile = tiles;
  for (int64_t row = 0; row < omega.row_tiles; ++row) {
    for (int64_t column = 0; column * kGramTile < shape.cols; ++column, tile += kCells) {
      multiply_tile<isa>(omega.numbers + row * size, packed + column * size, omega.depth, kGramTile,
                         std::min(kGramTile, shape.cols - column * kGramTile), false, tile);
    }
  }
}

template <Isa isa>
POLARITY_INLINE void accumulate_float_body(const float* y, const GramShape& shape,
                                           const OmegaBlock& omega, double* packed, double* tiles) {
  accumulate<isa>(y, shape, omega, packed, tiles);
}
template <Isa isa>
POLARITY_INLINE void accumulate_double_body(const double* y, const GramShape& shape,
                                            const OmegaBlock& omega, double* packed,
                                            double* tiles) {
  accumulate<isa>(y, shape, omega, packed, tiles);
}
POLARITY_ISA_VARIANTS(accumulate_float,
                      (const float* y, const GramShape& shape, const OmegaBlock& omega,
                       double* packed, double* tiles),
                      (y, shape, omega, packed, tiles))
POLARITY_ISA_VARIANTS(accumulate_double,
                      (const double* y, const GramShape& shape, const OmegaBlock& omega,
                       double* packed, double* tiles),
                      (y, shape, omega, packed, tiles))

void run(const float* y, const GramShape& shape, const OmegaBlock& omega, double* packed,
         double* tiles) {
  accumulate_float(y, shape, omega, packed, tiles);
}
void run(const double* y, const GramShape& shape, const OmegaBlock& omega, double* packed,
         double* tiles) {
  accumulate_double(y, shape, omega, packed, tiles);
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
      kPanelBytes / ((padded + kRowTiles * kGramTile) * static_cast<int64_t>(sizeof(double))), 8,
      kGramChunk);
  // A block of Omega serves some samples together, with 64 columns or more.
  constexpr int64_t kTasks = 32, kLeastColumns = 64, kMostSamples = 64;
  const int64_t row_blocks = (row_tiles + kRowTiles - 1) / kRowTiles;
  const int64_t least = (kLeastColumns + shape.cols - 1) / shape.cols;
  const int64_t together =
      std::min(shape.batch, std::clamp(shape.batch * row_blocks / kTasks, least, kMostSamples));
  const int64_t groups = (shape.batch + together - 1) / together;

  parallel_for(row_blocks * groups, 1, [&](int64_t begin, int64_t end) {
    const int64_t per_sample = kRowTiles * column_tiles * kCells;
    const auto doubles = [](int64_t count) {
      return std::make_unique<double[]>(static_cast<size_t>(count));
    };
    const auto omega = doubles(kRowTiles * depth * kGramTile), packed = doubles(depth * padded);
    const auto tiles = doubles(together * per_sample);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first_row = task / groups * kRowTiles * kGramTile;
      const int64_t height = std::min(kRowTiles * kGramTile, rows.count - first_row);
      const int64_t first_sample = task % groups * together;
      const int64_t samples = std::min(together, shape.batch - first_sample);
      std::fill_n(tiles.get(), samples * per_sample, 0.0);
      for (int64_t start = 0; start < shape.rows; start += depth) {
        const OmegaBlock block{omega.get(), (height + kGramTile - 1) / kGramTile, start,
                               std::min(depth, shape.rows - start)};
        for (int64_t row = 0; row < block.row_tiles; ++row) {
          make_omega(rows, shape.rows, first_row + row * kGramTile, start, block.depth,
                     omega.get() + row * block.depth * kGramTile);
        }
        for (int64_t b = 0; b < samples; ++b) {
          run(y + (first_sample + b) * shape.stride_batch, shape, block, packed.get(),
              tiles.get() + b * per_sample);
        }
      }
      for (int64_t b = 0; b < samples; ++b) {
        double* target = out + ((first_sample + b) * rows.count + first_row) * shape.cols;
        for (int64_t r = 0; r < height; ++r) {
          const double* row = tiles.get() + b * per_sample + r / kGramTile * column_tiles * kCells +
                              r % kGramTile * kGramTile;
          for (int64_t c = 0; c < shape.cols; ++c) {
            target[r * shape.cols + c] = row[c / kGramTile * kCells + c % kGramTile];
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
