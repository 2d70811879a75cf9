// Sums in an order that depends on the shape alone: the same bits on every run.
#pragma once

#include "portability.cuh"

namespace polarity::device {

// The sum over a whole warp, in every lane. Always the same tree.
template <typename T>
POLARITY_DEVICE T warp_sum(T value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += shuffle_xor(value, distance);
  return value;
}

// The sum over a block of kThreads (whole warps), in every thread.
template <int kThreads, typename T>
POLARITY_DEVICE T block_sum(T value) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  constexpr int kWarps = kThreads / 32;
  SHARED_ARRAY(T, sums, kWarps);
  value = warp_sum(value);
  if (lane() == 0) sums[threadIdx.x / 32] = value;
  sync_block();
  value = warp_sum(lane() < kWarps ? sums[lane()] : T(0));
  sync_block();  // the next call writes where this one has read
  return value;
}

}  // namespace polarity::device
