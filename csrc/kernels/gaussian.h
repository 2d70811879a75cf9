// Standard normal numbers: element i of the output is number offset + i of stream `seed`.
#pragma once

#include <cstdint>

namespace polarity {
namespace cpu {
void gaussian(uint64_t seed, uint64_t offset, float* out, int64_t count);
}
namespace cuda {
void gaussian(uint64_t seed, uint64_t offset, float* out, int64_t count, void* stream);
}
}  // namespace polarity
