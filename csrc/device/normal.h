// Uniform and normal numbers from Philox words, with the same bits on every backend: the
// elementary functions are polynomials of our own, every fused multiply-add is written out, and
// the files that include this are compiled with contraction off.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "philox.h"

#ifdef __CUDACC__
#define POLARITY_FMA(a, b, c) ::fmaf(a, b, c)
#define POLARITY_SQRT(a) ::sqrtf(a)  // correctly rounded: fast-math is never on
#else
#define POLARITY_FMA(a, b, c) __builtin_fmaf(a, b, c)
#define POLARITY_SQRT(a) __builtin_sqrtf(a)
#endif

namespace polarity {

// (k + 1/2) / 2^23 with k < 2^23: exact in float, strictly inside (0, 1).
POLARITY_HOST_DEVICE float uniform_float(uint32_t word) {
  return (static_cast<float>(static_cast<int32_t>(word >> 9)) + 0.5f) * 0x1p-23f;
}

// (k + 1/2) / 2^52 with k < 2^52: exact in double, strictly inside (0, 1).
POLARITY_HOST_DEVICE double uniform_double(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 32 | low) >> 12;
  return (static_cast<double>(static_cast<int64_t>(bits)) + 0.5) * 0x1p-52;
}

// ln(u) for normal positive floats: u = 2^e m with m in [sqrt(1/2), sqrt(2)), then a polynomial
// in f = m - 1 with relative error 3e-8.
POLARITY_HOST_DEVICE float log_positive(float u) {
  int32_t bits;
  memcpy(&bits, &u, sizeof bits);
  const int32_t exponent = (bits - 0x3f3504f3) >> 23;
  const int32_t mantissa_bits = bits - exponent * 0x800000;
  float m;
  memcpy(&m, &mantissa_bits, sizeof m);
  const float f = m - 1.0f;
  float p = 0.0697161147145f;
  p = POLARITY_FMA(p, f, -0.114797338466f);
  p = POLARITY_FMA(p, f, 0.116854199235f);
  p = POLARITY_FMA(p, f, -0.124256873315f);
  p = POLARITY_FMA(p, f, 0.142490576457f);
  p = POLARITY_FMA(p, f, -0.166678023195f);
  p = POLARITY_FMA(p, f, 0.200007157489f);
  p = POLARITY_FMA(p, f, -0.24999996958f);
  p = POLARITY_FMA(p, f, 0.3333333118f);
  const float f2 = f * f;
  const float tail = POLARITY_FMA(f2 * f, p, f2 * -0.5f);
  const float e = static_cast<float>(exponent);
  const float low = POLARITY_FMA(e, -2.12194440e-4f, tail);  // ln 2 = 0.693359375 - 2.1219444e-4
  return POLARITY_FMA(e, 0.693359375f, f + low);
}

struct Normal2 {
  float first, second;
};

// Box-Muller. The angle is word / 2^32 of a turn: the quadrant comes from the top bits, so the
// polynomials for sine and cosine only see [-pi/4, pi/4) and no argument reduction can round.
POLARITY_HOST_DEVICE Normal2 box_muller(uint32_t radius_word, uint32_t angle_word) {
  // 2^-32 (k + 1/2) keeps 24 significant bits at every magnitude: tails reach 6.7 sigma.
  const float u = POLARITY_FMA(static_cast<float>(radius_word), 0x1p-32f, 0x1p-33f);
  const float radius = POLARITY_SQRT(-2.0f * log_positive(u) + 0.0f);

  const uint32_t shifted = angle_word + 0x20000000u;
  const uint32_t quadrant = shifted >> 30;
  const int32_t offset = static_cast<int32_t>(shifted & 0x3fffffffu) - 0x20000000;
  const float x = static_cast<float>(offset) * 1.46291807927e-9f;  // 2 pi / 2^32
  const float y = x * x;
  float s = 2.72499258031e-6f;
  s = POLARITY_FMA(s, y, -0.000198400867354f);
  s = POLARITY_FMA(s, y, 0.00833333187471f);
  s = POLARITY_FMA(s, y, -0.166666666639f);
  const float sine = POLARITY_FMA(x * y, s, x);
  float c = -2.73009592039e-7f;
  c = POLARITY_FMA(c, y, 2.48006003772e-5f);
  c = POLARITY_FMA(c, y, -0.0013888887672f);
  c = POLARITY_FMA(c, y, 0.0416666666643f);
  const float cosine = POLARITY_FMA(y * y, c, POLARITY_FMA(y, -0.5f, 1.0f));

  const bool swap = (quadrant & 1u) != 0;
  const float a = swap ? sine : cosine;
  const float b = swap ? cosine : sine;
  const float cos_turn = (quadrant == 1 || quadrant == 2) ? -a : a;
  const float sin_turn = quadrant >= 2 ? -b : b;
  return {radius * cos_turn, radius * sin_turn};
}

}  // namespace polarity
