#include "uniform.h"

#include "../device/normal.h"
#include "cpu_isa.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;

// A word per element costs up to four Philox calls per counter, but the loop has no ragged ends
// and vectorises: the generator is far from being any program's bottleneck.
template <Isa isa>
POLARITY_INLINE void fill_float_body(uint64_t seed, uint64_t first, float* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t index = first + static_cast<uint64_t>(i);
    const Philox4 random = philox(seed, StreamTag::uniform32, index / 4);
    const uint32_t low = (index & 1) != 0 ? random.word[1] : random.word[0];
    const uint32_t high = (index & 1) != 0 ? random.word[3] : random.word[2];
    out[i] = uniform_float((index & 2) != 0 ? high : low);
  }
}

template <Isa isa>
POLARITY_INLINE void fill_double_body(uint64_t seed, uint64_t first, double* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t index = first + static_cast<uint64_t>(i);
    const Philox4 random = philox(seed, StreamTag::uniform64, index / 2);
    const bool odd = (index & 1) != 0;
    out[i] = uniform_double(odd ? random.word[2] : random.word[0],
                            odd ? random.word[3] : random.word[1]);
  }
}

POLARITY_ISA_VARIANTS(fill_float, (uint64_t seed, uint64_t first, float* out, int64_t count),
                      (seed, first, out, count))
POLARITY_ISA_VARIANTS(fill_double, (uint64_t seed, uint64_t first, double* out, int64_t count),
                      (seed, first, out, count))

}  // namespace

template <>
void uniform<float>(uint64_t seed, uint64_t offset, float* out, int64_t count) {
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    fill_float(seed, offset + static_cast<uint64_t>(begin), out + begin, end - begin);
  });
}

template <>
void uniform<double>(uint64_t seed, uint64_t offset, double* out, int64_t count) {
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    fill_double(seed, offset + static_cast<uint64_t>(begin), out + begin, end - begin);
  });
}

}  // namespace polarity::cpu
