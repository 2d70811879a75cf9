#pragma once

#include "../device/portability.cuh"
#include "activation_point.h"

namespace polarity {

// CUDA's own functions are within 1-2 units in the last place, normcdf within 5.
struct CudaMath {
  static POLARITY_DEVICE float exp(float x) { return ::expf(x); }
  static POLARITY_DEVICE double exp(double x) { return ::exp(x); }
  static POLARITY_DEVICE float expm1(float x) { return ::expm1f(x); }
  static POLARITY_DEVICE double expm1(double x) { return ::expm1(x); }
  static POLARITY_DEVICE float log1p(float x) { return ::log1pf(x); }
  static POLARITY_DEVICE double log1p(double x) { return ::log1p(x); }
  static POLARITY_DEVICE float normal_cdf(float x) { return ::normcdff(x); }
  static POLARITY_DEVICE double normal_cdf(double x) { return ::normcdf(x); }
  static POLARITY_DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
  static POLARITY_DEVICE double fma(double a, double b, double c) { return ::fma(a, b, c); }
  // x^2 is rounded; its error is put back, or the tail would be off by x^2 units.
  template <typename T>
  static POLARITY_DEVICE T bell(T x) {
    const T square = x * x;
    return exp(T(-0.5) * square) * (T(1) - T(0.5) * fma(x, x, -square));
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
