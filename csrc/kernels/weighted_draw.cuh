#pragma once

#include <cfloat>

#include "../device/portability.cuh"
#include "../device/reduce.cuh"
#include "weighted_draw.h"

namespace polarity {

// Keys as whole numbers in the same order. Zero is a row that is never drawn, the largest number a
// log-weight that is NaN or +infinity.
constexpr uint64_t kNeverDrawn = 0;
constexpr uint64_t kBadWeight = ~uint64_t{0};

POLARITY_DEVICE uint64_t ordered(double key) {
  const double number = key + 0.0;  // there is one zero
  uint64_t bits;
  memcpy(&bits, &number, sizeof bits);
  return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}

// One thread for each counter of leading bytes: the keys of its 16 rows.
POLARITY_GLOBAL void draw_keys_kernel(const double* log_weights, DrawShape shape, uint64_t* keys) {
  const uint64_t end = shape.offset + static_cast<uint64_t>(shape.count);
  const uint64_t first = shape.offset / kDrawLine * kDrawCounters;
  const uint64_t last = (end + kDrawLine - 1) / kDrawLine * kDrawCounters;
  for (uint64_t counter = first + static_cast<uint64_t>(device::thread_index()); counter < last;
       counter += static_cast<uint64_t>(device::grid_threads())) {
    const uint64_t line = counter / kDrawCounters;
    const int lane = static_cast<int>(counter % kDrawCounters);
    const Philox4 leading = leading_bytes(shape.seed, line, lane);
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      for (int byte = 0; byte < 4; ++byte) {
        const int row_of_line = (4 * word + byte) * kDrawCounters + lane;
        const uint64_t place = line * kDrawLine + static_cast<uint64_t>(row_of_line);
        if (place < shape.offset || place >= end) continue;
        const uint64_t row = place - shape.offset;
        const double log_weight = log_weights[row];
        const uint32_t bits = leading.word[word] >> 8 * byte & 0xff;
        keys[row] = !(log_weight <= DBL_MAX) ? kBadWeight
                    : log_weight < -DBL_MAX
                        ? kNeverDrawn
                        : ordered(draw_key(shape.seed, place, bits, log_weight));
      }
    }
  }
}

// The least key that is drawn is found from its first four bits on: after each step `found` has
// four more of them. A step counts, for each digit, the keys not below `found` with that digit
// after it.
constexpr int kDrawDigits = 15;  // 1 .. 15; every key has digit 0 or more
constexpr int kDrawBlock = 256;

// The rows of this block: the blocks share them out in order.
POLARITY_DEVICE void rows_of_block(int64_t count, int64_t& first, int64_t& last) {
  const int64_t share = (count + gridDim.x - 1) / gridDim.x;
  first = blockIdx.x * share < count ? blockIdx.x * share : count;
  last = first + share < count ? first + share : count;
}

POLARITY_GLOBAL void draw_count_kernel(const uint64_t* keys, int64_t count, int shift,
                                       const uint64_t* found, int64_t* counts) {
  int64_t first, last;
  rows_of_block(count, first, last);
  const uint64_t base = *found;
  int mine[kDrawDigits] = {};  // of a share of less than 2^31 rows
  for (int64_t row = first + threadIdx.x; row < last; row += kDrawBlock) {
    const uint64_t key = keys[row];
#pragma unroll
    for (int digit = 0; digit < kDrawDigits; ++digit) {
      const uint64_t least = base | static_cast<uint64_t>(digit + 1) << shift;
      mine[digit] += key >= least ? 1 : 0;
    }
  }
  // All threads' counts at once, then a warp for a digit: one barrier, not some for each digit.
  constexpr int kEvery = kDrawDigits * kDrawBlock;
  SHARED_ARRAY(int, every, kEvery);
#pragma unroll
  for (int digit = 0; digit < kDrawDigits; ++digit) {
    every[digit * kDrawBlock + threadIdx.x] = mine[digit];
  }
  device::sync_block();
  for (int digit = static_cast<int>(threadIdx.x / 32); digit < kDrawDigits;
       digit += kDrawBlock / 32) {
    int64_t sum = 0;
    for (int i = device::lane(); i < kDrawBlock; i += 32) sum += every[digit * kDrawBlock + i];
    sum = device::warp_sum(sum);
    if (device::lane() == 0) counts[blockIdx.x * kDrawDigits + digit] = sum;
  }
}

// One block, a warp for each digit: takes the largest digit that leaves enough keys.
POLARITY_GLOBAL void draw_choose_kernel(const int64_t* counts, int64_t blocks, int64_t draws,
                                        int shift, uint64_t* found) {
  SHARED_ARRAY(int64_t, totals, kDrawDigits);
  const int warp = static_cast<int>(threadIdx.x / 32);
  int64_t mine = 0;
  for (int64_t block = device::lane(); block < blocks; block += 32) {
    mine += counts[block * kDrawDigits + warp];
  }
  mine = device::warp_sum(mine);
  if (device::lane() == 0) totals[warp] = mine;
  device::sync_block();
  if (threadIdx.x == 0) {
    int digit = kDrawDigits;
    while (digit > 0 && totals[digit - 1] < draws) --digit;
    *found |= static_cast<uint64_t>(digit) << shift;
  }
}

// What a block's rows hold, once the least key is found.
struct DrawTally {
  int64_t above, equal;   // keys above the least one, and equal to it
  int64_t positive, bad;  // rows with a weight; the first bad row, or the number of rows
};

POLARITY_GLOBAL void draw_tally_kernel(const uint64_t* keys, int64_t count, const uint64_t* found,
                                       DrawTally* tallies) {
  int64_t first, last;
  rows_of_block(count, first, last);
  const uint64_t least = *found;
  DrawTally mine{0, 0, 0, count};
  for (int64_t row = first + threadIdx.x; row < last; row += kDrawBlock) {
    const uint64_t key = keys[row];
    mine.above += key > least;
    mine.equal += key == least;
    mine.positive += key != kNeverDrawn;
    if (key == kBadWeight && row < mine.bad) mine.bad = row;
  }
  const DrawTally all{device::block_sum<kDrawBlock>(mine.above),
                      device::block_sum<kDrawBlock>(mine.equal),
                      device::block_sum<kDrawBlock>(mine.positive),
                      count - device::block_max<kDrawBlock>(count - mine.bad)};
  if (threadIdx.x == 0) tallies[blockIdx.x] = all;
}

// A row that is drawn, on its way to its place.
struct DrawnRow {
  uint64_t key;
  int64_t row;
};

// Moves the drawn rows to the front of `drawn`, in the order of rows: keys above the least one, and
// as many of those equal to it, from the first row on, as there is room for. Block 0 says how many.
POLARITY_GLOBAL void draw_collect_kernel(const uint64_t* keys, DrawShape shape,
                                         const uint64_t* found, const DrawTally* tallies,
                                         DrawnRow* drawn, DrawStatus* status) {
  SHARED_ARRAY(int64_t, slots, kDrawBlock);
  const int thread = static_cast<int>(threadIdx.x);
  // What the blocks before this one hold, and all of them.
  int64_t above_before = 0, equal_before = 0, above = 0, positive = 0, fine = 0;
  for (int64_t block = thread; block < gridDim.x; block += kDrawBlock) {
    const DrawTally tally = tallies[block];
    if (block < blockIdx.x) above_before += tally.above;
    if (block < blockIdx.x) equal_before += tally.equal;
    above += tally.above;
    positive += tally.positive;
    if (shape.count - tally.bad > fine) fine = shape.count - tally.bad;
  }
  above_before = device::block_sum<kDrawBlock>(above_before);
  equal_before = device::block_sum<kDrawBlock>(equal_before);
  above = device::block_sum<kDrawBlock>(above);
  positive = device::block_sum<kDrawBlock>(positive);
  const int64_t bad = shape.count - device::block_max<kDrawBlock>(fine);
  if (blockIdx.x == 0 && thread == 0) {
    status->drawn = positive < shape.draws ? positive : shape.draws;
    status->bad = bad < shape.count ? bad : -1;
  }

  const uint64_t least = *found;
  const int64_t room = shape.draws - above;  // for equal ones
  int64_t first, last;
  rows_of_block(shape.count, first, last);
  for (int64_t start = first; start < last; start += kDrawBlock) {
    const int64_t row = start + thread;
    const uint64_t key = row < last ? keys[row] : kNeverDrawn;
    const bool is_above = key > least, is_equal = row < last && key == least;
    // Both counts in one number: how many there are up to and with each thread.
    int64_t here = (is_above ? int64_t{1} << 32 : 0) + (is_equal ? 1 : 0);
    slots[thread] = here;
    for (int distance = 1; distance < kDrawBlock; distance *= 2) {
      device::sync_block();
      const int64_t other = thread >= distance ? slots[thread - distance] : 0;
      device::sync_block();
      here += other;
      slots[thread] = here;
    }
    device::sync_block();
    const int64_t total = slots[kDrawBlock - 1];
    const int64_t above_rank = above_before + (here >> 32) - 1;
    const int64_t equal_rank = equal_before + (here & 0xffffffff) - 1;
    if (is_above) drawn[above_rank] = {key, row};
    if (is_equal && equal_rank < room) drawn[above + equal_rank] = {key, row};
    above_before += total >> 32;
    equal_before += total & 0xffffffff;
    device::sync_block();  // slots are written again
  }
}

// One step of a bitonic sort of `padded` rows, a power of two: largest key first, then lowest row.
// What lies beyond the rows drawn counts as last.
POLARITY_GLOBAL void draw_sort_kernel(DrawnRow* drawn, int64_t padded, int64_t run,
                                      int64_t distance) {
  for (int64_t pair = device::thread_index(); pair < padded / 2; pair += device::grid_threads()) {
    const int64_t low = pair / distance * distance * 2 + pair % distance;
    const int64_t high = low + distance;
    const DrawnRow a = drawn[low], b = drawn[high];
    const bool b_first = b.key > a.key || (b.key == a.key && b.row < a.row);
    if (b_first == ((low & run) == 0)) {
      drawn[low] = b;
      drawn[high] = a;
    }
  }
}

POLARITY_GLOBAL void draw_pad_kernel(DrawnRow* drawn, int64_t first, int64_t padded,
                                     uint64_t* found) {
  for (int64_t i = first + device::thread_index(); i < padded; i += device::grid_threads()) {
    drawn[i] = {kNeverDrawn, INT64_MAX};
  }
  if (device::thread_index() == 0) *found = 0;
}

POLARITY_GLOBAL void draw_rows_kernel(const DrawnRow* drawn, int64_t draws, int64_t* rows) {
  for (int64_t i = device::thread_index(); i < draws; i += device::grid_threads()) {
    rows[i] = drawn[i].row;
  }
}

}  // namespace polarity
