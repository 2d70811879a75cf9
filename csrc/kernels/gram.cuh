#pragma once

#include "../device/async_copy.cuh"
#include "../device/mma.cuh"
#include "../device/packet.cuh"
#include "../device/portability.cuh"
#include "gram.h"

namespace polarity {

constexpr int kGramBlock = 128;  // four warps, each with a tile of the workspace
constexpr int kGramDepth = 16;   // rows staged in shared memory at a time
constexpr int kGramQuads = kGramSide * kGramDepth / (4 * kGramBlock);  // that a thread stages
constexpr int kGramAhead = 3;  // stages on their way from memory

struct alignas(16) GramPair {
  double value[2];
};

// Where a row of one of eight columns is among theirs, staged as doubles. What half a warp reads or
// writes at once lies in different banks: four rows of four columns, a fragment's; sixteen rows of
// two columns, as columns are written; or eight rows of two columns, four apart, as rows are.
POLARITY_DEVICE int gram_staged(int column, int row) {
  const int turn = column % 4 * 2 ^ column % 2 ^ column / 4 * 4;
  return column * kGramDepth + 2 * (row / 2 ^ turn) + row % 2;
}

// pair -> (row, column) of an upper-triangular enumeration: column j holds pairs j(j+1)/2 ...
POLARITY_DEVICE void gram_tile_of_pair(int64_t pair, int64_t& row, int64_t& column) {
  column = 0;
  while ((column + 1) * (column + 2) / 2 <= pair) ++column;
  row = pair - column * (column + 1) / 2;
}

// How a thread reads its quads of a side: four numbers that are neighbours in memory, along rows or
// columns, in one access where `packets`.
struct GramReader {
  int64_t step, quad_step;  // in elements, within a quad and to the next one
  int row, column;          // of the first quad, among staged ones
  bool along_rows, packets;

  POLARITY_DEVICE GramReader(const GramShape& shape, bool packets_in)
      : along_rows(shape.stride_row < shape.stride_col), packets(packets_in) {
    const int thread = static_cast<int>(threadIdx.x);
    constexpr int kDown = kGramDepth / 4;
    step = along_rows ? shape.stride_row : shape.stride_col;
    quad_step = along_rows ? kGramBlock / kDown * shape.stride_col : 8 * shape.stride_row;
    row = along_rows ? thread % kDown * 4 : thread % 8;
    column = along_rows ? thread / kDown : thread / 8 * 4;
  }

  POLARITY_DEVICE int row_of(int quad) const { return along_rows ? row : row + 8 * quad; }
  POLARITY_DEVICE int column_of(int quad) const {
    return along_rows ? column + kGramBlock / (kGramDepth / 4) * quad : column;
  }

  // Sets out for the numbers at `first`, of so many rows and columns, that the thread itself will
  // take from `slot`: a place for each of its quads, kGramBlock apart. `again`: what is beyond the
  // columns is zero there already.
  template <typename T>
  POLARITY_DEVICE void fetch(const T* first, int rows, int columns, bool again,
                             device::Quad<T>* slot) const {
    constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
#pragma unroll
    for (int q = 0; q < kGramQuads; ++q) {
      const T* const address = first + q * quad_step;
      T* const quad = slot[q * kGramBlock].value;
      const int across = columns - column_of(q);
      const bool whole =
          packets && rows == kGramDepth && (along_rows || across <= 0 || across >= 4);
      if (whole && across > 0) {
#pragma unroll
        for (int i = 0; i < 4; i += kPiece) device::copy_async(quad + i, address + i);
      } else if (!(whole && again)) {
        const int down = rows - row_of(q);
        const int count = down <= 0 || across <= 0 ? 0 : along_rows ? down : across;
#pragma unroll
        for (int i = 0; i < 4; ++i) quad[i] = i < count ? address[i * step] : T(0);
      }
    }
  }

  // From there to where all warps read them, as doubles: each number is converted once.
  template <typename T>
  POLARITY_DEVICE void stage(const device::Quad<T>* slot, double* staged) const {
#pragma unroll
    for (int q = 0; q < kGramQuads; ++q) {
      const device::Quad<T> found = slot[q * kGramBlock];
      const int r = row_of(q), c = column_of(q);
      double* const eight = staged + c / 8 * (8 * kGramDepth);
      if (along_rows) {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
          const GramPair pair = {static_cast<double>(found.value[i]),
                                 static_cast<double>(found.value[i + 1])};
          device::store_packet(eight + gram_staged(c % 8, r + i), pair);
        }
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          eight[gram_staged(c % 8 + i, r)] = static_cast<double>(found.value[i]);
        }
      }
    }
  }
};

// A tile of G in the registers of a warp: kGramTile x kGramTile in pieces of 16 x 8.
struct GramSums {
  static constexpr int kDown = static_cast<int>(kGramTile) / 16;
  static constexpr int kAcross = static_cast<int>(kGramTile) / 8;
  double value[kDown][kAcross][4] = {};

  // Adds the products of staged columns, kGramTile from `up` on of one side and from `across` on of
  // the other: of kPieces times eight of the latter, on the diagonal without pieces below it. Both
  // are constants, because between branches nothing would be on its way.
  template <bool kDiagonal, int kPieces>
  POLARITY_DEVICE void add_products(const double* left, int up, const double* right, int across) {
    const int g = device::lane() / 4, t = device::lane() % 4;
#pragma unroll
    for (int step = 0; step < kGramDepth; step += 8) {
      const int row = step + t;
      double a[kDown][4];
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          a[i][k] = left[(up + 16 * i + k % 2 * 8) * kGramDepth + gram_staged(g, row + k / 2 * 4)];
        }
      }
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        const double* const eight = right + (across + 8 * j) * kGramDepth;
        const double b[2] = {eight[gram_staged(g, row)], eight[gram_staged(g, row + 4)]};
#pragma unroll
        for (int i = 0; i < kDown; ++i) {
          if (!kDiagonal || 16 * i < 8 * (j + 1)) device::mma_m16n8k8(value[i][j], a[i], b);
        }
      }
    }
  }

  // The same of so many columns, as far as there are.
  template <bool kDiagonal>
  POLARITY_DEVICE void add_products(const double* left, int up, const double* right, int across,
                                    int columns) {
    if (columns > 24) {
      add_products<kDiagonal, 4>(left, up, right, across);
    } else if (columns > 16) {
      add_products<kDiagonal, 3>(left, up, right, across);
    } else if (columns > 8) {
      add_products<kDiagonal, 2>(left, up, right, across);
    } else {
      add_products<kDiagonal, 1>(left, up, right, across);
    }
  }

  // Into the workspace, where each lane has its own cells, or to what is there; and begins anew.
  POLARITY_DEVICE void move_to(double* tile, bool add) {
    const int g = device::lane() / 4, t = device::lane() % 4;
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          double& cell = tile[(16 * i + k / 2 * 8 + g) * kGramTile + 8 * j + 2 * t + k % 2];
          cell = add ? cell + value[i][j][k] : value[i][j][k];
          value[i][j][k] = 0.0;
        }
      }
    }
  }
};

// Bytes of shared memory: staged columns, two sides twice, and what is on its way to them.
template <typename T>
constexpr size_t kGramShared = 4 * kGramSide * kGramDepth * sizeof(double) +
                               kGramAhead * 2 * kGramQuads * kGramBlock * sizeof(device::Quad<T>);

// One block per (batch element, split, pair of kGramSide columns): a piece of Y^T Y over its share
// of the rows. The rows of the next kGramAhead stages are on their way from memory while the tensor
// cores multiply those in shared memory.
template <typename T>
POLARITY_GLOBAL POLARITY_BOUNDS(kGramBlock, 3) void gram_partial_kernel(const T* y, GramShape shape,
                                                                        int64_t splits,
                                                                        bool packets,
                                                                        double* partial) {
  constexpr int kStaged = static_cast<int>(kGramSide) * kGramDepth;
  constexpr int kSlot = kGramQuads * kGramBlock;
  DYN_SHARED(double, staged);
  auto* const slots = reinterpret_cast<device::Quad<T>*>(staged + 4 * kStaged) + threadIdx.x;

  const int64_t sides = (shape.cols + kGramSide - 1) / kGramSide;
  const int64_t pairs = sides * (sides + 1) / 2;
  const int64_t part = blockIdx.x / pairs;  // of all samples and splits
  const int64_t b = part / splits, split = part - b * splits;
  int64_t upper, lower;
  gram_tile_of_pair(blockIdx.x - part * pairs, upper, lower);
  const bool one_side = upper == lower;

  const int64_t share = gram_share(shape, splits);
  const int64_t first = split * share;
  const int64_t last = first + share < shape.rows ? first + share : shape.rows;
  const GramReader reader(shape, packets);
  // Of the rows to be fetched next.
  const T* from = y + b * shape.stride_batch + (first + reader.row) * shape.stride_row +
                  (upper * kGramSide + reader.column) * shape.stride_col;
  const int64_t to_right = (lower - upper) * kGramSide * shape.stride_col;
  const auto columns_of = [&](int64_t side) {
    const int64_t left = shape.cols - side * kGramSide;
    return static_cast<int>(left < kGramSide ? left : kGramSide);
  };
  const auto fetch = [&](int64_t start, bool again, int ahead) {
    device::Quad<T>* const slot = slots + 2 * ahead * kSlot;
    if (start < last) {
      const int rows = static_cast<int>(last - start < kGramDepth ? last - start : kGramDepth);
      reader.fetch(from, rows, columns_of(upper), again, slot);
      if (!one_side) reader.fetch(from + to_right, rows, columns_of(lower), again, slot + kSlot);
    }
    from += kGramDepth * shape.stride_row;
    device::copy_async_commit();
  };
  const auto stage = [&](int ahead, double* to) {
    const device::Quad<T>* const slot = slots + 2 * ahead * kSlot;
    device::copy_async_wait<kGramAhead - 1>();
    reader.stage(slot, to);
    if (!one_side) reader.stage(slot + kSlot, to + kStaged);
  };

  // The warp's tile of the workspace.
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t i = 2 * upper + warp / 2, j = 2 * lower + warp % 2;
  const bool works = i <= j && j * kGramTile < shape.cols;
  double* const tile =
      partial + (part * gram_tile_pairs(shape.cols) + j * (j + 1) / 2 + i) * kGramTile * kGramTile;
  const int columns = static_cast<int>(shape.cols - j * kGramTile);
  const int up = warp / 2 * static_cast<int>(kGramTile);
  const int across = warp % 2 * static_cast<int>(kGramTile);
  const int other = one_side ? 0 : kStaged;

  GramSums sums;
  bool begun = false;
  int64_t until_moved = kGramChunk;
  for (int ahead = 0; ahead < kGramAhead; ++ahead) fetch(first + ahead * kGramDepth, false, ahead);
  double* now = staged;
  double* next = staged + 2 * kStaged;
  int ahead = 0;
  if (first < last) stage(ahead, now);
  device::sync_block();
  for (int64_t start = first; start < last; start += kGramDepth) {
    fetch(start + kGramAhead * kGramDepth, true, ahead);
    ahead = ahead + 1 < kGramAhead ? ahead + 1 : 0;
    until_moved -= kGramDepth;
    if (works) {
      if (i == j) {
        sums.add_products<true>(now, up, now + other, across, columns);
      } else {
        sums.add_products<false>(now, up, now + other, across, columns);
      }
      if (until_moved == 0) sums.move_to(tile, begun);
    }
    if (until_moved == 0) {
      begun = true;
      until_moved = kGramChunk;
    }
    if (start + kGramDepth < last) stage(ahead, next);
    device::sync_block();
    double* const free = now;
    now = next;
    next = free;
  }
  if (works) sums.move_to(tile, begun);
}

// Sums the splits in order and mirrors the upper triangle.
POLARITY_GLOBAL void gram_reduce_kernel(const double* partial, GramShape shape, int64_t splits,
                                        double* out) {
  const int64_t pairs = gram_tile_pairs(shape.cols);
  const int64_t square = shape.cols * shape.cols;
  const int64_t total = shape.batch * square;
  for (int64_t index = device::thread_index(); index < total; index += device::grid_threads()) {
    const int64_t b = index / square;
    const int64_t row = (index - b * square) / shape.cols;
    const int64_t column = index - b * square - row * shape.cols;
    const int64_t i = row < column ? row : column;
    const int64_t j = row < column ? column : row;
    const int64_t tile_row = i / kGramTile;
    const int64_t tile_column = j / kGramTile;
    const int64_t pair = tile_column * (tile_column + 1) / 2 + tile_row;
    const int64_t cell = (i % kGramTile) * kGramTile + j % kGramTile;
    double sum = 0.0;
    for (int64_t split = 0; split < splits; ++split) {
      sum += partial[((b * splits + split) * pairs + pair) * kGramTile * kGramTile + cell];
    }
    out[index] = sum;
  }
}

}  // namespace polarity
