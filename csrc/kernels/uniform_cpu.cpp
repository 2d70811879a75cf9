#include "uniform.h"

#include "../device/normal.h"
#include "counter_stream.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;

struct UniformFloat {
  static POLARITY_INLINE Numbers<float, 4> make(uint64_t seed, uint64_t counter) {
    const Philox4 random = philox(seed, StreamTag::uniform32, counter);
    return {{uniform_float(random.word[0]), uniform_float(random.word[1]),
             uniform_float(random.word[2]), uniform_float(random.word[3])}};
  }
};

struct UniformDouble {
  static POLARITY_INLINE Numbers<double, 2> make(uint64_t seed, uint64_t counter) {
    const Philox4 random = philox(seed, StreamTag::uniform64, counter);
    return {{uniform_double(random.word[0], random.word[1]),
             uniform_double(random.word[2], random.word[3])}};
  }
};

template <Isa isa>
POLARITY_INLINE void fill_float_body(uint64_t seed, uint64_t first, float* out, int64_t count) {
  CounterStream<UniformFloat, float, 4>::fill(seed, first, out, count);
}
template <Isa isa>
POLARITY_INLINE void fill_double_body(uint64_t seed, uint64_t first, double* out, int64_t count) {
  CounterStream<UniformDouble, double, 2>::fill(seed, first, out, count);
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
