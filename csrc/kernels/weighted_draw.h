// rows = n of the rows 0 .. count - 1 without replacement, each drawn in proportion to
// exp(log_weight) of the rows left, in the order they are drawn: the n largest of
// log_weight - ln(E), E a standard exponential number of the row (Yellott 1977; Efraimidis and
// Spirakis 2006). Equal keys, which are next to impossible, go by row.
//
// E of row i depends on the seed and offset + i alone: 8 of its 64 bits, which settle for most rows
// that they lose, share one counter of Philox among 16 rows; the other 56 come from a counter of
// its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../device/exponential.h"
#include "../device/philox.h"

namespace polarity {

struct DrawShape {
  int64_t count, draws;  // rows there are, and rows wanted: draws <= count
  uint64_t seed, offset;
};

struct DrawStatus {
  int64_t drawn;  // how many of the rows wanted have a weight above zero
  int64_t bad;    // the first row whose log-weight is NaN or +infinity, or -1
};

// Of 256 rows in a line (by offset + i), row r has byte r / 16 of the counter r % 16, so that 16
// counters side by side serve 16 rows side by side.
constexpr uint64_t kDrawLine = 256;
constexpr int kDrawCounters = 16;

POLARITY_HOST_DEVICE Philox4 leading_bytes(uint64_t seed, uint64_t line, int counter) {
  return philox(seed, StreamTag::draw_leading,
                line * kDrawCounters + static_cast<uint64_t>(counter));
}

// The leading byte of the row with `place` = offset + i.
POLARITY_HOST_DEVICE uint32_t leading_byte(uint64_t seed, uint64_t place) {
  const int row = static_cast<int>(place % kDrawLine), byte = row / kDrawCounters;
  const Philox4 random = leading_bytes(seed, place / kDrawLine, row % kDrawCounters);
  return random.word[byte / 4] >> 8 * (byte % 4) & 0xff;
}

// The key of the row with `place` = offset + i and the given leading byte.
POLARITY_HOST_DEVICE double draw_key(uint64_t seed, uint64_t place, uint32_t leading,
                                     double log_weight) {
  const Philox4 rest = philox(seed, StreamTag::draw_rest, place);
  const uint64_t word = static_cast<uint64_t>(leading) << 56 |
                        static_cast<uint64_t>(rest.word[0] >> 8) << 32 | rest.word[1];
  return log_weight - log_normal(exponential(word));
}

// The power of two that rows are sorted in.
inline int64_t draw_padded(int64_t draws) {
  int64_t padded = 1;
  while (padded < draws) padded *= 2;
  return padded;
}

// Blocks of threads that share out the rows.
inline int64_t draw_blocks(int64_t count) { return std::clamp<int64_t>(count / 4096, 1, 1024); }

// Words of 8 bytes: a key for each row, 20 counters for each block, a pair for each row drawn.
inline int64_t draw_workspace(const DrawShape& shape) {
  return shape.count + 20 * draw_blocks(shape.count) + 2 * draw_padded(shape.draws);
}

namespace cpu {
// rows: [draws]; defined where none is bad and as many were drawn.
void weighted_draw(const double* log_weights, const DrawShape& shape, int64_t* rows,
                   DrawStatus* status);
}  // namespace cpu
namespace cuda {
// workspace: draw_workspace(shape) words.
void weighted_draw(const double* log_weights, const DrawShape& shape, uint64_t* workspace,
                   int64_t* rows, DrawStatus* status, void* stream);
}  // namespace cuda

}  // namespace polarity
