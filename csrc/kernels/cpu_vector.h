// The vector registers of an instruction set, through the compiler's vector types: arithmetic on
// them is written as on numbers.
#pragma once

#include <cstdint>
#include <utility>

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

// Lanes a0 b0 a1 b1 ...: of two vectors, the first half of them in a and the second in b.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define POLARITY_SHUFFLES 1
#endif
#endif
#ifdef POLARITY_SHUFFLES
constexpr int interleaved_lane(int i, int width) { return i % 2 == 0 ? i / 2 : width + i / 2; }

template <typename V, int... i>
POLARITY_INLINE void interleave_lanes(V& a, V& b, std::integer_sequence<int, i...> /*lanes*/) {
  constexpr int kWidth = sizeof...(i);
  const V low = __builtin_shufflevector(a, b, interleaved_lane(i, kWidth)...);
  b = __builtin_shufflevector(a, b, (interleaved_lane(i, kWidth) + kWidth / 2)...);
  a = low;
}

template <Isa isa, typename T>
POLARITY_INLINE void interleave(Vector<isa, T>& a, Vector<isa, T>& b) {
  interleave_lanes(a, b, std::make_integer_sequence<int, VectorOf<isa, T>::kWidth>{});
}
#else  // GCC before 12
template <Isa isa, typename T>
POLARITY_INLINE void interleave(Vector<isa, T>& a, Vector<isa, T>& b) {
  constexpr int kWidth = VectorOf<isa, T>::kWidth;
  T lanes[2 * kWidth];
  for (int i = 0; i < kWidth; ++i) {
    lanes[2 * i] = a[i];
    lanes[2 * i + 1] = b[i];
  }
  a = *reinterpret_cast<const Vector<isa, T>*>(lanes);
  b = *reinterpret_cast<const Vector<isa, T>*>(lanes + kWidth);
}
#endif

// The sums of the numbers in each of as many vectors as one is wide; the vectors are overwritten.
template <Isa isa, typename T>
POLARITY_INLINE Vector<isa, T> lane_sums(Vector<isa, T>* vectors) {
#pragma GCC unroll 4
  for (int count = VectorOf<isa, T>::kWidth / 2; count > 0; count /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
      interleave<isa, T>(vectors[i], vectors[i + count]);
      vectors[i] += vectors[i + count];
    }
  }
  return vectors[0];
}

// The transpose of as many rows as a vector is wide, the i-th of them at from(i): rows are
// interleaved until they are columns, which go to `to`, `stride` apart.
template <Isa isa, typename T, class From>
POLARITY_INLINE void transpose_square(const From& from, T* to, int64_t stride) {
  using V = Vector<isa, T>;
  constexpr int kWidth = VectorOf<isa, T>::kWidth;
  V rows[kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) rows[i] = *reinterpret_cast<const V*>(from(i));
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
    V next[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i) {
      next[2 * i] = rows[i];
      next[2 * i + 1] = rows[i + kWidth / 2];
      interleave<isa, T>(next[2 * i], next[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = next[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) *reinterpret_cast<V*>(to + i * stride) = rows[i];
}

}  // namespace polarity::cpu
