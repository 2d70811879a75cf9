// Compiled with -ffp-contract=off: the bits must be those of the CUDA backend.
#include "../device/normal.h"
#include "counter_stream.h"
#include "gaussian.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;

struct Gaussian {
  static POLARITY_INLINE Numbers<float, 4> make(uint64_t seed, uint64_t counter) {
    const Philox4 random = philox(seed, StreamTag::gaussian, counter);
    const Normal2 a = box_muller(random.word[0], random.word[1]);
    const Normal2 b = box_muller(random.word[2], random.word[3]);
    return {{a.first, a.second, b.first, b.second}};
  }
};

template <Isa isa>
POLARITY_INLINE void fill_body(uint64_t seed, uint64_t first, float* out, int64_t count) {
  CounterStream<Gaussian, float, 4>::fill(seed, first, out, count);
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
