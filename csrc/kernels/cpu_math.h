// exp, expm1, log1p and the normal distribution function in a form that a compiler can vectorise:
// no branches, no tables, no calls. Ranges are those that activation_point.h asks for; errors are a
// few units in the last place, relative, down to the underflow threshold.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu_isa.h"

namespace polarity::cpu {

// Constants of a floating-point type. The polynomials, low order first, come from
// fit_polynomials.py: kExp in r, kLog in s^2, kTail in t - 1/2.
template <typename T>
struct Constants;

template <>
struct Constants<float> {
  using Bits = uint32_t;
  static constexpr int kMantissa = 23;
  static constexpr float kBias = 127.0f;
  static constexpr float kRound = 0x1.8p23f;
  static constexpr float kLeast = -110.0f;  // exp is zero from here down
  static constexpr float kInverseLn2 = 1.44269504f;
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kExp[] = {0.500000001f,   0.166666667f,  0.041666465f,
                                   0.00833331093f, 0.0013933641f, 0.000198909809f};
  static constexpr float kLog[] = {0.333333337f, 0.199998532f, 0.14296179f, 0.108532879f,
                                   0.116121646f};
  static constexpr float kTail[] = {0.255395679f,    0.343580341f,   0.279471453f,
                                    0.0728849481f,   -0.0860125542f, -0.0518567348f,
                                    0.0489279143f,   0.0272126148f,  -0.0382975577f,
                                    -0.00797399989f, 0.0215489918f,  -0.00202479031f};
};

template <>
struct Constants<double> {
  using Bits = uint64_t;
  static constexpr int kMantissa = 52;
  static constexpr double kBias = 1023.0;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLeast = -750.0;
  static constexpr double kInverseLn2 = 1.4426950408889634;
  static constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
  static constexpr double kExp[] = {0.5,
                                    0.16666666666666671,
                                    0.04166666666666667,
                                    0.0083333333333261409,
                                    0.0013888888888883752,
                                    0.00019841269874800492,
                                    2.4801587325533364e-5,
                                    2.7557255425746434e-6,
                                    2.7557273661348636e-7,
                                    2.5105206373957011e-8,
                                    2.0914679376583935e-9};
  static constexpr double kLog[] = {
      0.33333333333333333,  0.19999999999999761,  0.1428571428580005,   0.11111111099118385,
      0.090909099489813572, 0.076922719824302746, 0.066675893157246279, 0.058671395306515987,
      0.054225891974400074, 0.037460718977753837, 0.078152889004614252};
  static constexpr double kTail[] = {
      0.25539567631050574,   0.34358034220690511,   0.27947209255605473,
      0.072884463013845667,  -0.086042647557945697, -0.051833480554480225,
      0.049449792948998942,  0.02679347483633969,   -0.04243670458072845,
      -0.00439957508087645,  0.036984523827319405,  -0.017483510040193291,
      -0.022217249116272063, 0.033004520191377778,  -0.0046055566453099428,
      -0.029732867782077439, 0.032757548967228609,  -0.00092885144415794357,
      -0.037203520218178771, 0.046945478941410868,  -0.0017238398718497814,
      -0.073312230449465033, 0.062905745479617427,  0.055825466546529687,
      -0.084538828601058349, -0.018018237556952864, 0.042164070655729683};
};

// c[0] + c[1] x + ... by Horner's rule, unrolled.
template <int k = 0, typename T, int n>
POLARITY_INLINE T polynomial(const T (&c)[n], T x) {
  if constexpr (k + 1 < n) {
    return c[k] + x * polynomial<k + 1>(c, x);
  } else {
    return c[k];
  }
}

struct VectorMath {
  template <typename T>
  struct Reduced {
    T expm1_rest;   // exp(r) - 1 with x = n ln 2 + r
    T half, other;  // 2^n = half * other, each a normal number even where 2^n is not
  };

  // 2^n for a whole n: adding kRound leaves n, biased, in the low bits of the mantissa.
  template <typename T>
  static POLARITY_INLINE T power_of_two(T n) {
    const T shifted = n + (Constants<T>::kRound + Constants<T>::kBias);
    typename Constants<T>::Bits bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits <<= Constants<T>::kMantissa;
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }

  // x <= 0
  template <typename T>
  static POLARITY_INLINE Reduced<T> reduce(T x) {
    using C = Constants<T>;
    const T clamped = x < C::kLeast ? C::kLeast : x;                 // NaN stays
    const T n = (clamped * C::kInverseLn2 + C::kRound) - C::kRound;  // to the nearest whole number
    T r = clamped - n * C::kLn2High;
    r = r - n * C::kLn2Low;
    const T half = (n * T(0.5) + C::kRound) - C::kRound;
    return {r + r * r * polynomial(C::kExp, r), power_of_two(half), power_of_two(n - half)};
  }

  template <typename T>
  static POLARITY_INLINE T exp(T x) {
    const Reduced<T> e = reduce(x);
    return (e.expm1_rest * e.half + e.half) * e.other;
  }

  template <typename T>
  static POLARITY_INLINE T expm1(T x) {
    const Reduced<T> e = reduce(x);
    const T scale = e.half * e.other;
    return scale * e.expm1_rest + (scale - T(1));
  }

  // 2 atanh(x / (2 + x)): relative accuracy down to the smallest x.
  template <typename T>
  static POLARITY_INLINE T log1p(T x) {
    const T s = x / (T(2) + x);
    const T y = s * s;
    return T(2) * (s + s * y * polynomial(Constants<T>::kLog, y));
  }

  static POLARITY_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static POLARITY_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }

  // exp(-x^2 / 2); what the rounding of x^2 drops is put back, or the tail would be off by x^2
  // units.
  template <typename T>
  static POLARITY_INLINE T bell(T x) {
    const T square = x * x;
    return exp(T(-0.5) * square) * (T(1) - T(0.5) * fma(x, x, -square));
  }

  // Phi(x), from Phi(-a) = bell(a) t P(t) with t = 1 / (1 + a / sqrt(8)).
  template <typename T>
  static POLARITY_INLINE T normal_cdf(T x) {
    const T a = x < T(0) ? -x : x;
    const T t = T(1) / (T(1) + T(0.353553390593273762200422181052) * a);
    const T tail = bell(a) * (t * polynomial(Constants<T>::kTail, t - T(0.5)));
    return x < T(0) ? tail : T(1) - tail;
  }
};

}  // namespace polarity::cpu
