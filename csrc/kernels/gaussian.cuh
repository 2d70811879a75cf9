#pragma once

#include "../device/normal.h"
#include "../device/portability.cuh"

namespace polarity {

// One thread per Philox counter: four words, two Box-Muller pairs, four normals.
POLARITY_GLOBAL void gaussian_kernel(uint64_t seed, uint64_t offset, float* out, int64_t count) {
  const uint64_t first = offset / 4;
  const uint64_t last = (offset + static_cast<uint64_t>(count) + 3) / 4;
  for (uint64_t counter = first + static_cast<uint64_t>(device::thread_index()); counter < last;
       counter += static_cast<uint64_t>(device::grid_threads())) {
    const Philox4 random = philox(seed, StreamTag::gaussian, counter);
    const Normal2 a = box_muller(random.word[0], random.word[1]);
    const Normal2 b = box_muller(random.word[2], random.word[3]);
    const float value[4] = {a.first, a.second, b.first, b.second};
    const int64_t base = static_cast<int64_t>(counter * 4 - offset);  // negative in the first block
#pragma unroll
    for (int lane = 0; lane < 4; ++lane) {
      const int64_t i = base + lane;
      if (i >= 0 && i < count) {
        out[i] = value[lane];
      }
    }
  }
}

}  // namespace polarity
