// The vector registers of an instruction set, through the compiler's vector types: arithmetic on
// them is written as on numbers.
#pragma once

#include <cstdint>

#include "cpu_isa.h"

namespace polarity::cpu {

template <Isa isa, typename T>
struct VectorOf {
  static constexpr int kBytes = isa == Isa::avx512 ? 64 : isa == Isa::avx2 ? 32 : 16;
  static constexpr int kWidth = kBytes / static_cast<int>(sizeof(T));
  // May lie at any address that a T may lie at.
  typedef T Type __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
};

template <Isa isa, typename T>
using Vector = typename VectorOf<isa, T>::Type;

// The sum of the numbers in a vector: halves are added until one is left.
template <Isa isa, typename T>
POLARITY_INLINE T lane_sum(const Vector<isa, T>& vector) {
  constexpr int kWidth = VectorOf<isa, T>::kWidth;
  T lanes[kWidth];
  *reinterpret_cast<Vector<isa, T>*>(lanes) = vector;
#pragma GCC unroll 4
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

}  // namespace polarity::cpu
