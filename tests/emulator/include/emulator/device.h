// The device side of CUDA, as g++ sees it: the names that csrc/device takes from here when
// POLARITY_EMULATED is defined. Every call that can be wrong carries the place it was made from.
#pragma once

#include <cmath>
#include <cstring>

#include "runtime.h"

#define POLARITY_DEVICE inline
#define POLARITY_GLOBAL inline
#define POLARITY_BOUNDS(threads, blocks)

#define threadIdx (::polarity::emulator::thread_index())
#define blockIdx (::polarity::emulator::block_index())
#define blockDim (::polarity::emulator::block_size())
#define gridDim (::polarity::emulator::grid_size())

// The static tells the instances of a template apart, as __shared__ does.
#define SHARED_ARRAY(type, name, count)                                      \
  static const char name##_declaration = 0;                                  \
  type* const name = static_cast<type*>(::polarity::emulator::shared_array(  \
      &name##_declaration, #name, sizeof(type) * static_cast<size_t>(count), \
      {__FILE__, __LINE__}))
#define DYN_SHARED(type, name) \
  type* const name = static_cast<type*>(::polarity::emulator::dynamic_shared({__FILE__, __LINE__}))

#define POLARITY_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace polarity::device {

inline void sync_block(POLARITY_CALLER) { emulator::sync_block({file, line}); }

constexpr uint32_t kAllLanes = 0xffffffffu;

inline int lane() { return emulator::lane(); }

inline void sync_warp(uint32_t mask = kAllLanes, POLARITY_CALLER) {
  emulator::exchange("sync_warp", mask, 0, lane(), {file, line});
}

inline uint32_t ballot(bool predicate, uint32_t mask = kAllLanes, POLARITY_CALLER) {
  return emulator::exchange("ballot", mask, predicate, lane(), {file, line}).nonzero;
}

// The value that lane `source` of the warp passes; undefined, and reported, when it is not in the
// mask.
template <typename T>
T shuffle(T value, int source, uint32_t mask = kAllLanes, POLARITY_CALLER) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulator::exchange("shuffle", mask, bits, source & 31, {file, line}).value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <typename T>
T shuffle_xor(T value, int other, uint32_t mask = kAllLanes, POLARITY_CALLER) {
  return shuffle(value, lane() ^ other, mask, file, line);
}

}  // namespace polarity::device

namespace polarity::emulator {

inline float read_as_tf32(float x) {  // what a tensor core does with a float
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits &= 0xffffe000u;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

}  // namespace polarity::emulator

// CUDA's math functions that C does not have. The long double keeps the rounding of x / sqrt(2)
// from being magnified x^2 times in the tail.
inline double normcdf(double x) {
  return static_cast<double>(0.5L * ::erfcl(-0.70710678118654752440084436L * x));
}
inline float normcdff(float x) {
  return static_cast<float>(0.5 * ::erfc(-0.70710678118654752 * x));
}
