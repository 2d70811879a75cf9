#pragma once

#include "../device/async_copy.cuh"
#include "convolve_to_few.h"

namespace polarity {

// The pixels of results that read the same pixels of x, one of each phase, are a cell: it has
// phases times channels sums. A thread has some sums of a strip of cells, one below the other:
// every number of x that it reads serves all these sums, and every number of the weight all these
// cells.
template <int sums>
constexpr int kFewCells = sums > 4 ? 3 : 4;  // 33, of 32 pixels with padding, are 11 strips
constexpr int kFewBlock = 128;               // threads, at most: a strip each
constexpr int64_t kFewColumns = 32;          // and of them across and down
constexpr int64_t kFewStrips = 16;
constexpr int kFewTaps = 4;    // along an axis, that a stage has, at most
constexpr int kFewPieces = 2;  // of 16 bytes of channels, that a stage has

// What blocks have: equal tiles of an image's cells. The threads of a warp are side by side.
struct FewTile {
  int columns, strips;
  int tap_rows, tap_columns;  // of a stage
  int rows, pitch;            // pixels of x that a stage has, down and across
  int stages;                 // that make the sums: some channels and taps after the other
  int64_t down, across;       // tiles of an image
  int64_t groups;             // of sums
  bool in_pieces;             // 16 bytes of channels are next to each other in x, and aligned
};

// 16 bytes of channels.
template <typename T>
struct alignas(16) FewPiece {
  static constexpr int kChannels = 16 / sizeof(T);
  T value[kChannels];
};

// A stage in shared memory.
template <typename T, int sums>
struct FewStage {
  using Piece = FewPiece<T>;
  static constexpr int kChannels = kFewPieces * Piece::kChannels;
  static_assert(sums % Piece::kChannels == 0);

  Piece* pixels;  // [kFewPieces, rows, pitch]: neighbours in a warp read 16 bytes side by side
  Piece* weight;  // [tap rows, tap columns, kChannels, sums]: all threads read the same

  POLARITY_HOST_DEVICE static int pixel_pieces(const FewTile& tile) {
    return kFewPieces * tile.rows * tile.pitch;
  }
  POLARITY_HOST_DEVICE static int pieces(const FewTile& tile) {
    constexpr int kTap = kChannels * sums / Piece::kChannels;
    return pixel_pieces(tile) + tile.tap_rows * tile.tap_columns * kTap;
  }
};

// Where a stage begins.
struct FewStart {
  int tap_row, tap_column;
  int64_t channel;
};

// A number into shared memory: zero where there is none.
template <typename T>
POLARITY_DEVICE void stage_number(bool exists, const T* from, T* to) {
  if (exists) {
    device::copy_async_number(to, from);
  } else {
    *to = T(0);
  }
}

// Pixels of an image from (first_row, first_column) on; zeros beside it.
template <typename T>
POLARITY_DEVICE void stage_pixels(const T* image, const FewShape& shape, const FewTile& tile,
                                  int64_t first_row, int64_t first_column, int64_t first_channel,
                                  FewPiece<T>* to) {
  using Piece = FewPiece<T>;
  const int rows = tile.rows, pitch = tile.pitch;
  const int64_t line = shape.x.in * shape.pixel_step(), channels = shape.channels - first_channel;
  const T* const corner = image + first_row * line + first_column * shape.pixel_step() +
                          first_channel * shape.channel_step();
  // Neighbours in a warp have what is side by side in memory: the pieces of a pixel, or a piece of
  // pixels.
  const int step = tile.in_pieces ? kFewPieces : 1, width = pitch * step;
  const int threads = static_cast<int>(blockDim.x), down = threads / width;
  int row = static_cast<int>(threadIdx.x) / width;
  int index = static_cast<int>(threadIdx.x) - row * width;
#pragma unroll 1
  while (row < rows) {
    const int column = tile.in_pieces ? index / kFewPieces : index;
    const int64_t i = first_row + row, j = first_column + column;
    const bool inside = i >= 0 && i < shape.y.in && j >= 0 && j < shape.x.in;
    const T* const from = corner + row * line + column * shape.pixel_step();
    Piece* const target = to + row * pitch + column;
    if (tile.in_pieces) {
      const int piece = index % kFewPieces, channel = piece * Piece::kChannels;
      if (inside && channel < channels) {
        device::copy_async(target + piece * rows * pitch, from + channel);
      } else {
        target[piece * rows * pitch] = Piece{};
      }
    } else {
#pragma unroll
      for (int c = 0; c < kFewPieces * Piece::kChannels; ++c) {
        stage_number(inside && c < channels, from + c * shape.channel_step(),
                     target[c / Piece::kChannels * rows * pitch].value + c % Piece::kChannels);
      }
    }
    row += down;
    index += threads - down * width;
    if (index >= width) index -= width, ++row;
  }
}

// The weight of some sums; zero where a phase has a tap less.
template <int sums, typename T>
POLARITY_DEVICE void stage_weight(const T* weight, const FewShape& shape, const FewTile& tile,
                                  int first_sum, const FewStart& start, T* to) {
  constexpr int kChannels = FewStage<T, sums>::kChannels;
  const int stride = static_cast<int>(shape.stride);
  const int out_channels = static_cast<int>(shape.out_channels);
  const int64_t kernel = shape.y.kernel * shape.x.kernel, step = out_channels * kernel;
  const int numbers = tile.tap_rows * tile.tap_columns * sums;
  for (int index = static_cast<int>(threadIdx.x); index < numbers;
       index += static_cast<int>(blockDim.x)) {
    const int tap = index / sums, row = tap / tile.tap_columns;
    const int n = first_sum + index % sums, phase = n / out_channels;
    const int k = phase / stride + stride * (start.tap_row + row);
    const int l = phase % stride + stride * (start.tap_column + tap - row * tile.tap_columns);
    const bool exists = phase < stride * stride && k < shape.y.kernel && l < shape.x.kernel;
    const T* const from =
        weight + start.channel * step + n % out_channels * kernel + k * shape.x.kernel + l;
    T* const target = to + tap * kChannels * sums + index % sums;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      stage_number(exists && start.channel + c < shape.channels, from + c * step,
                   target + c * sums);
    }
  }
}

// What a stage adds to the sums of a thread, whose first pixel for the last tap is `pixel`.
template <int cells, int sums, typename T>
POLARITY_DEVICE void add_up_stage(const FewStage<T, sums>& stage, const FewTile& tile,
                                  const FewPiece<T>* pixel, T (&sum)[cells][sums]) {
  using Piece = FewPiece<T>;
  const int pitch = tile.pitch, plane = tile.rows * pitch;
  const Piece* weight = stage.weight;
  for (int row = tile.tap_rows - 1; row >= 0; --row) {
    for (int column = tile.tap_columns - 1; column >= 0; --column) {
#pragma unroll 1
      for (int piece = 0; piece < kFewPieces; ++piece) {
        Piece numbers[cells];
#pragma unroll
        for (int cell = 0; cell < cells; ++cell) {
          numbers[cell] = pixel[piece * plane + (row + cell) * pitch + column];
        }
#pragma unroll
        for (int c = 0; c < Piece::kChannels; ++c) {
#pragma unroll
          for (int o = 0; o < sums; o += Piece::kChannels) {
            const Piece some = *weight++;
#pragma unroll
            for (int i = 0; i < Piece::kChannels; ++i) {
#pragma unroll
              for (int cell = 0; cell < cells; ++cell) {
                sum[cell][o + i] += numbers[cell].value[c] * some.value[i];
              }
            }
          }
        }
      }
    }
  }
}

// Some sums of a strip of cells, from (row, column) down, into an image of results.
template <int cells, int sums, typename T>
POLARITY_DEVICE void write_cells(const T (&sum)[cells][sums], const FewShape& shape,
                                 const FewFactor<T>& factor, int64_t image, int64_t row,
                                 int64_t column, int first_sum, T* out) {
  const int stride = static_cast<int>(shape.stride), height = static_cast<int>(shape.y.out);
  const int out_channels = static_cast<int>(shape.out_channels);
  const int64_t size = shape.out_channels * shape.y.out * shape.x.out;
  const T* const by = factor.values + (factor.values ? image % factor.batch * size : 0);
  const int Y = static_cast<int>(stride * row - shape.y.padding);
  const int X = static_cast<int>(stride * column - shape.x.padding);
  const int phase = first_sum / out_channels;
  int o = first_sum - phase * out_channels, y = Y + phase / stride, x = X + phase % stride;
#pragma unroll
  for (int i = 0; i < sums; ++i) {
    const bool exists = y < Y + stride && x >= 0 && x < shape.x.out;
    int64_t at = (static_cast<int64_t>(o) * height + y) * shape.x.out + x;
#pragma unroll
    for (int cell = 0; cell < cells; ++cell) {
      const int lower = y + cell * stride;
      if (exists && lower >= 0 && lower < height) {
        out[image * size + at] = factor.values ? sum[cell][i] * by[at] : sum[cell][i];
      }
      at += stride * shape.x.out;
    }
    if (++o < out_channels) continue;
    o = 0;
    if (++x < X + stride) continue;
    x = X;
    ++y;
  }
}

// A block takes a tile of an image's cells: through shared memory, some channels after the other.
template <typename T, int sums>
POLARITY_GLOBAL void convolve_to_few_kernel(const T* x, const T* weight, T* out, FewShape shape,
                                            FewTile tile, FewFactor<T> factor) {
  using Stage = FewStage<T, sums>;
  using Piece = FewPiece<T>;
  constexpr int kCells = kFewCells<sums>;
  DYN_SHARED(Piece, shared);
  const int stride = static_cast<int>(shape.stride);
  const int thread = static_cast<int>(threadIdx.x);
  const int strip = thread / tile.columns, column = thread - strip * tile.columns;
  const bool works = strip < tile.strips;  // not the rest of the last warp
  const auto stage_of = [&](int number) {
    Piece* const first = shared + number % 2 * Stage::pieces(tile);
    return Stage{first, first + Stage::pixel_pieces(tile)};
  };

  for (int64_t block = blockIdx.x; block < shape.images * tile.down * tile.across * tile.groups;
       block += gridDim.x) {
    const int64_t place = block / tile.groups, line = place / tile.across;
    const int64_t image = line / tile.down;
    const int first_sum = static_cast<int>(block - place * tile.groups) * sums;
    const int64_t first_row =
        shape.y.first_cell(stride) + (line - image * tile.down) * tile.strips * kCells;
    const int64_t first_column =
        shape.x.first_cell(stride) + (place - line * tile.across) * tile.columns;
    FewStart next{0, 0, 0};
    T sum[kCells][sums] = {};
    for (int number = -1; number < tile.stages; ++number) {
      device::copy_async_wait<0>();
      device::sync_block();  // stage `number` is here, and nobody reads the one before any more
      if (number + 1 < tile.stages) {
        const Stage stage = stage_of(number + 1);
        stage_pixels<T>(x + image * shape.channels * shape.y.in * shape.x.in, shape, tile,
                        first_row - next.tap_row - tile.tap_rows + 1,
                        first_column - next.tap_column - tile.tap_columns + 1, next.channel,
                        stage.pixels);
        stage_weight<sums, T>(weight, shape, tile, first_sum, next, stage.weight->value);
        device::copy_async_commit();
        next.channel += Stage::kChannels;
        if (next.channel >= shape.channels) next.channel = 0, next.tap_column += tile.tap_columns;
        if (next.tap_column >= shape.x.taps(stride)) {
          next.tap_column = 0;
          next.tap_row += tile.tap_rows;
        }
      }
      if (number >= 0 && works) {
        const Stage stage = stage_of(number);
        add_up_stage(stage, tile, stage.pixels + strip * kCells * tile.pitch + column, sum);
      }
    }
    if (works) {
      write_cells(sum, shape, factor, image, first_row + strip * kCells, first_column + column,
                  first_sum, out);
    }
  }
}

}  // namespace polarity
