// Exponential numbers from random bits, with the same bits on every backend: the logarithm is a
// polynomial of our own, every fused multiply-add is written out, and the files that include this
// are compiled with contraction off.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

#ifdef __CUDACC__
#define POLARITY_FMA64(a, b, c) ::fma(a, b, c)
#else
#define POLARITY_FMA64(a, b, c) __builtin_fma(a, b, c)
#endif

namespace polarity {

// ln(1 + f) = 2 atanh(f / (2 + f)) for 1 + f between sqrt(1/2) and sqrt(2); relative accuracy
// however small f is. The polynomial is kLog of csrc/kernels/fit_polynomials.py.
POLARITY_HOST_DEVICE double log1p_near_zero(double f) {
  const double s = f / (2.0 + f);
  const double y = s * s;
  double p = 0.078152889004614252;
  p = POLARITY_FMA64(p, y, 0.037460718977753837);
  p = POLARITY_FMA64(p, y, 0.054225891974400074);
  p = POLARITY_FMA64(p, y, 0.058671395306515987);
  p = POLARITY_FMA64(p, y, 0.066675893157246279);
  p = POLARITY_FMA64(p, y, 0.076922719824302746);
  p = POLARITY_FMA64(p, y, 0.090909099489813572);
  p = POLARITY_FMA64(p, y, 0.11111111099118385);
  p = POLARITY_FMA64(p, y, 0.1428571428580005);
  p = POLARITY_FMA64(p, y, 0.19999999999999761);
  p = POLARITY_FMA64(p, y, 0.33333333333333333);
  return POLARITY_FMA64(2.0 * s * y, p, 2.0 * s);
}

// ln(x) for normal positive x = 2^e m with m between sqrt(1/2) and sqrt(2).
POLARITY_HOST_DEVICE double log_normal(double x) {
  int64_t bits;
  memcpy(&bits, &x, sizeof bits);
  const int64_t exponent = (bits - 0x3fe6a09e667f3bcd) >> 52;
  const int64_t mantissa_bits = bits - exponent * 0x10000000000000;
  double m;
  memcpy(&m, &mantissa_bits, sizeof m);
  const double e = static_cast<double>(static_cast<int32_t>(exponent));
  const double low = POLARITY_FMA64(e, 0x1.a39ef35793c76p-33, log1p_near_zero(m - 1.0));
  return POLARITY_FMA64(e, 0x1.62e42feep-1, low);
}

// (word + 1/2) / 2^64, rounded once.
POLARITY_HOST_DEVICE double unit_interval(uint64_t word) {
  const double high = static_cast<double>(static_cast<uint32_t>(word >> 32));
  const double low = static_cast<double>(static_cast<uint32_t>(word)) + 0.5;
  return POLARITY_FMA64(high, 0x1p-32, low * 0x1p-64);
}

// -ln(1 - v) with v = (word + 1/2) / 2^64: a standard exponential number that grows with the word,
// accurate at both ends, never less than v.
POLARITY_HOST_DEVICE double exponential(uint64_t word) {
  const bool small = word < uint64_t{1} << 62;
  const double v = unit_interval(word);
  const double rest = unit_interval(~word);  // 1 - v
  return small ? -log1p_near_zero(small ? -v : 0.0) : -log_normal(rest);
}

}  // namespace polarity
