// Single-precision exp, expm1, log1p and erfc that a compiler can vectorise: no branches, no
// tables, no calls. Ranges are those that activation_point.h asks for; errors are a few units in
// the last place, relative, down to the underflow threshold.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu_isa.h"

namespace polarity::cpu {

struct VectorMath {
  struct Reduced {
    float expm1_rest;   // exp(r) - 1 with x = n ln 2 + r
    float half, other;  // 2^n = half * other, each a normal number even where 2^n is not
  };

  static POLARITY_INLINE float power_of_two(int32_t n) {
    const int32_t bits = (n + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }

  static POLARITY_INLINE Reduced reduce(float x) {
    const float clamped = x < -110.0f ? -110.0f : x > 88.0f ? 88.0f : x;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in every rounding unit.
    const float shifted = clamped * 1.44269504f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    float r = clamped - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 0.000198909808698f;
    p = p * r + 0.0013933641032f;
    p = p * r + 0.00833331093445f;
    p = p * r + 0.041666465006f;
    p = p * r + 0.166666666816f;
    p = p * r + 0.500000001346f;
    int32_t exponent;
    memcpy(&exponent, &shifted, sizeof exponent);
    exponent -= 0x4b400000;  // the bits of 1.5 * 2^23
    const int32_t first = exponent >> 1;
    return {r + r * r * p, power_of_two(first), power_of_two(exponent - first)};
  }

  static POLARITY_INLINE float exp(float x) {
    const Reduced e = reduce(x);
    return (e.expm1_rest * e.half + e.half) * e.other;
  }

  static POLARITY_INLINE float expm1(float x) {
    const Reduced e = reduce(x);
    const float scale = e.half * e.other;
    return scale * e.expm1_rest + (scale - 1.0f);
  }

  // 2 atanh(x / (2 + x)): relative accuracy down to the smallest x.
  static POLARITY_INLINE float log1p(float x) {
    const float s = x / (2.0f + x);
    const float y = s * s;
    float p = 0.11612164612f;
    p = p * y + 0.108532879004f;
    p = p * y + 0.142961789972f;
    p = p * y + 0.19999853166f;
    p = p * y + 0.333333336603f;
    return 2.0f * (s + s * y * p);
  }

  static POLARITY_INLINE float gaussian(float x) {
    const float square = x * x;
    const float rest = __builtin_fmaf(x, x, -square);  // what the rounding of x^2 dropped
    return exp(-0.5f * square) * (1.0f - 0.5f * rest);
  }

  // exp(-a^2) t P(t) with t = 1 / (1 + a / 2), and 2 - that for negative arguments.
  static POLARITY_INLINE float erfc(float x) {
    const float a = x < 0.0f ? -x : x;
    const float t = 1.0f / (1.0f + 0.5f * a);
    float p = 0.0361287502403f;
    p = p * t + -0.193876962561f;
    p = p * t + 0.390700530184f;
    p = p * t + -0.306404033933f;
    p = p * t + -0.00310953343145f;
    p = p * t + 0.0216961306677f;
    p = p * t + 0.0614309562271f;
    p = p * t + 0.183564069288f;
    p = p * t + 0.245569088249f;
    p = p * t + 0.282210588205f;
    p = p * t + 0.282090419557f;
    const float square = a * a;
    const float rest = __builtin_fmaf(a, a, -square);
    const float tail = exp(-square) * (1.0f - rest) * (t * p);
    return x < 0.0f ? 2.0f - tail : tail;
  }
};

// Double precision: the C library, whose functions are within one unit in the last place.
struct LibraryMath {
  static POLARITY_INLINE double exp(double x) { return std::exp(x); }
  static POLARITY_INLINE double expm1(double x) { return std::expm1(x); }
  static POLARITY_INLINE double log1p(double x) { return std::log1p(x); }
  static POLARITY_INLINE double erfc(double x) { return std::erfc(x); }
  static POLARITY_INLINE double gaussian(double x) {
    const double square = x * x;
    const double rest = std::fma(x, x, -square);
    return std::exp(-0.5 * square) * (1.0 - 0.5 * rest);
  }
};

}  // namespace polarity::cpu
