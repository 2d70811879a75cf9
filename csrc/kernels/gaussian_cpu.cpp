// Compiled with -ffp-contract=off: the bits must be those of the CUDA backend.
#include <algorithm>

#include "../device/normal.h"
#include "cpu_isa.h"
#include "gaussian.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kLanes = 16;           // counters per step: what the vectoriser works on
constexpr int64_t kBlock = 4 * kLanes;   // normals per step
constexpr int64_t kGrain = 1 << 14;

// kBlock normals from counter on, in stream order.
template <Isa isa>
POLARITY_INLINE void fill_block_body(uint64_t seed, uint64_t counter, float* out) {
  float a[kLanes], b[kLanes], c[kLanes], d[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const Philox4 random =
        philox(seed, StreamTag::gaussian, counter + static_cast<uint64_t>(lane));
    const Normal2 first = box_muller(random.word[0], random.word[1]);
    const Normal2 second = box_muller(random.word[2], random.word[3]);
    a[lane] = first.first;
    b[lane] = first.second;
    c[lane] = second.first;
    d[lane] = second.second;
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    out[4 * lane] = a[lane];
    out[4 * lane + 1] = b[lane];
    out[4 * lane + 2] = c[lane];
    out[4 * lane + 3] = d[lane];
  }
}

// Numbers first .. first + count of the stream; `first` need not be a multiple of four.
template <Isa isa>
POLARITY_INLINE void fill_body(uint64_t seed, uint64_t first, float* out, int64_t count) {
  float block[kBlock];
  int64_t skip = static_cast<int64_t>(first % 4);
  uint64_t counter = first / 4;
  for (int64_t done = 0; done < count; counter += kLanes) {
    const int64_t take = std::min(kBlock - skip, count - done);
    if (take == kBlock) {
      fill_block_body<isa>(seed, counter, out + done);
    } else {
      fill_block_body<isa>(seed, counter, block);
      std::copy_n(block + skip, take, out + done);
    }
    done += take;
    skip = 0;
  }
}

POLARITY_ISA_VARIANTS(fill, (uint64_t seed, uint64_t first, float* out, int64_t count),
                      (seed, first, out, count))

}  // namespace

void gaussian(uint64_t seed, uint64_t offset, float* out, int64_t count) {
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    fill(seed, offset + static_cast<uint64_t>(begin), out + begin, end - begin);
  });
}

}  // namespace polarity::cpu
