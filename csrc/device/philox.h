// Philox 4x32-10 counter-based random numbers (Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011). Host and device give the same words for the same (seed, tag, counter).
#pragma once

#include <cstdint>

#include "host_device.h"

namespace polarity {

// Third counter word: keeps the streams of different distributions apart under one seed.
enum class StreamTag : uint32_t {
  gaussian = 0,
  uniform32 = 1,
  uniform64 = 2,
  draw_leading = 3,
  draw_rest = 4,
};

struct Philox4 {
  uint32_t word[4];
};

POLARITY_HOST_DEVICE Philox4 philox(uint64_t seed, StreamTag tag, uint64_t counter) {
  uint32_t c0 = static_cast<uint32_t>(counter);
  uint32_t c1 = static_cast<uint32_t>(counter >> 32);
  uint32_t c2 = static_cast<uint32_t>(tag);
  uint32_t c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed);
  uint32_t k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    const uint64_t product1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(product1);
    c3 = static_cast<uint32_t>(product0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace polarity
