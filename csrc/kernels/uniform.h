// Uniform numbers in the open interval (0, 1): element i of the output is number offset + i of
// stream `seed`; 23 random bits in float, 52 in double.
#pragma once

#include <cstdint>

namespace polarity {
namespace cpu {
template <typename T>
void uniform(uint64_t seed, uint64_t offset, T* out, int64_t count);
}
namespace cuda {
template <typename T>
void uniform(uint64_t seed, uint64_t offset, T* out, int64_t count, void* stream);
}
}  // namespace polarity
