#pragma once

#include "../device/normal.h"
#include "../device/portability.cuh"

namespace polarity {

POLARITY_GLOBAL void uniform_float_kernel(uint64_t seed, uint64_t offset, float* out,
                                          int64_t count) {
  for (int64_t i = device::thread_index(); i < count; i += device::grid_threads()) {
    const uint64_t index = offset + static_cast<uint64_t>(i);
    const Philox4 random = philox(seed, StreamTag::uniform32, index / 4);
    out[i] = uniform_float(random.word[index % 4]);
  }
}

POLARITY_GLOBAL void uniform_double_kernel(uint64_t seed, uint64_t offset, double* out,
                                           int64_t count) {
  for (int64_t i = device::thread_index(); i < count; i += device::grid_threads()) {
    const uint64_t index = offset + static_cast<uint64_t>(i);
    const Philox4 random = philox(seed, StreamTag::uniform64, index / 2);
    const bool odd = (index & 1) != 0;
    out[i] = uniform_double(odd ? random.word[2] : random.word[0],
                            odd ? random.word[3] : random.word[1]);
  }
}

}  // namespace polarity
