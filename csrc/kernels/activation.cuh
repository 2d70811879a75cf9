#pragma once

#include "../device/portability.cuh"
#include "activation_point.h"

namespace polarity {

// CUDA's own functions are within 1-2 units in the last place (5 for expf's range reduction).
struct CudaMath {
  static POLARITY_DEVICE float exp(float x) { return ::expf(x); }
  static POLARITY_DEVICE double exp(double x) { return ::exp(x); }
  static POLARITY_DEVICE float expm1(float x) { return ::expm1f(x); }
  static POLARITY_DEVICE double expm1(double x) { return ::expm1(x); }
  static POLARITY_DEVICE float log1p(float x) { return ::log1pf(x); }
  static POLARITY_DEVICE double log1p(double x) { return ::log1p(x); }
  static POLARITY_DEVICE float erfc(float x) { return ::erfcf(x); }
  static POLARITY_DEVICE double erfc(double x) { return ::erfc(x); }
  // x^2 is rounded; its error is put back, or the tail would be off by x^2 units.
  static POLARITY_DEVICE float gaussian(float x) {
    const float square = x * x;
    const float rest = ::fmaf(x, x, -square);
    return ::expf(-0.5f * square) * (1.0f - 0.5f * rest);
  }
  static POLARITY_DEVICE double gaussian(double x) {
    const double square = x * x;
    const double rest = ::fma(x, x, -square);
    return ::exp(-0.5 * square) * (1.0 - 0.5 * rest);
  }
};

template <Activation kind, typename T>
POLARITY_GLOBAL void activation_kernel(T alpha, const T* x, T* y, T* derivative, int64_t count) {
  for (int64_t i = device::thread_index(); i < count; i += device::grid_threads()) {
    const auto point = activation_point<kind, CudaMath>(x[i], alpha);
    y[i] = point.y;
    derivative[i] = point.derivative;
  }
}

}  // namespace polarity
