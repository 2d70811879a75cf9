// Exact scaling of numbers to the middle of the exponent's range, so that their squares stay in it.
#pragma once

#include <cstdint>
#include <cstring>

#include "host_device.h"

namespace polarity {

struct Scale {
  double factor, inverse;  // powers of two, one over the other
};

// Sums of squares below this are taken for zero where the largest number has been brought near one:
// what they stand for is far below rounding, and they have lost their digits.
constexpr double kTinySquare = 0x1p-900;

// The scale that brings `largest` >= 0 into [1, 2), or as near as powers of two that are normal
// numbers reach.
POLARITY_HOST_DEVICE Scale scale_to_one(double largest) {
  uint64_t bits;
  memcpy(&bits, &largest, sizeof bits);
  uint64_t exponent = bits >> 52;  // biased; 0 for subnormal numbers, 2047 for infinity and NaN
  exponent = exponent < 1 ? 1 : exponent > 2045 ? 2045 : exponent;
  const uint64_t up = (2046 - exponent) << 52, down = exponent << 52;
  Scale scale;
  memcpy(&scale.factor, &up, sizeof up);
  memcpy(&scale.inverse, &down, sizeof down);
  return scale;
}

}  // namespace polarity
