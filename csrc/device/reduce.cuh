// Sums and maxima, in an order that depends on the shape alone: the same bits on every run.
#pragma once

#include "portability.cuh"

namespace polarity::device {

// All values of a warp combined, in every lane. Always the same tree.
template <typename T, class Combine>
POLARITY_DEVICE T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = combine(value, shuffle_xor(value, distance));
  }
  return value;
}

template <typename T>
POLARITY_DEVICE T warp_sum(T value) {
  return warp_reduce(value, [](T a, T b) { return a + b; });
}

// All values of a block of kThreads (whole warps) combined, in every thread; `neutral` changes
// nothing.
template <int kThreads, typename T, class Combine>
POLARITY_DEVICE T block_reduce(T value, T neutral, Combine combine) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  constexpr int kWarps = kThreads / 32;
  SHARED_ARRAY(T, values, kWarps);
  value = warp_reduce(value, combine);
  if (lane() == 0) values[threadIdx.x / 32] = value;
  sync_block();
  value = warp_reduce(lane() < kWarps ? values[lane()] : neutral, combine);
  sync_block();  // the next call writes where this one has read
  return value;
}

template <int kThreads, typename T>
POLARITY_DEVICE T block_sum(T value) {
  return block_reduce<kThreads>(value, T(0), [](T a, T b) { return a + b; });
}

template <int kThreads, typename T>
POLARITY_DEVICE T block_max(T value) {  // of numbers that are not negative
  return block_reduce<kThreads>(value, T(0), [](T a, T b) { return a > b ? a : b; });
}

}  // namespace polarity::device
