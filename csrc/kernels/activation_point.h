// The formulas of the activations, shared by the CPU and CUDA backends. No derivative is formed
// as a difference of nearly equal numbers: 1 - tanh^2 has no correct digit left at x = 10, where
// sech^2 computed from exp(-2|x|) has them all. NaN comes out where NaN goes in; infinities give
// the limits.
//
// `Math` supplies exp and expm1 (argument <= 0), log1p (argument in [0, 1]), normal_cdf,
// bell(x) = exp(-x^2 / 2) and fma.
#pragma once

#include "../device/host_device.h"
#include "activation.h"

namespace polarity {

template <typename T>
struct ActivationPoint {
  T y, derivative;
};

// Beyond it every exponential here is zero, in both precisions: clamping x changes no result
// except infinity times zero, which becomes the limit.
template <typename T>
constexpr T kFar = T(1024);

template <typename T>
POLARITY_HOST_DEVICE T at_least_far_left(T x) {
  return x < -kFar<T> ? -kFar<T> : x;
}

template <typename T>
POLARITY_HOST_DEVICE T within_far(T x) {
  return x > kFar<T> ? kFar<T> : at_least_far_left(x);
}

template <Activation kind, class Math, typename T>
POLARITY_HOST_DEVICE ActivationPoint<T> activation_point(T x, T alpha) {
  const T zero = T(0);
  const T one = T(1);
  if constexpr (kind == Activation::relu) {
    // Not max(x, 0): NaN must come through.
    return {x <= zero ? zero : x, x <= zero ? zero : x > zero ? one : x};
  } else if constexpr (kind == Activation::leaky_relu) {
    return {x > zero ? x : x * alpha, x > zero ? one : x <= zero ? alpha : x};
  } else if constexpr (kind == Activation::tanh) {
    const T magnitude = x < zero ? -x : x;
    const T e = Math::exp(T(-2) * magnitude);
    const T inverse = one / (one + e);
    // (1 - e) loses digits below |x| ~ 0.3, where expm1 keeps them.
    const T value = -Math::expm1(T(-2) * magnitude) * inverse;
    return {x == zero ? x : x < zero ? -value : value, T(4) * e * inverse * inverse};
  } else if constexpr (kind == Activation::sigmoid) {
    const T e = Math::exp(x < zero ? x : -x);
    const T inverse = one / (one + e);
    return {x < zero ? e * inverse : inverse, e * inverse * inverse};
  } else if constexpr (kind == Activation::silu) {
    const T e = Math::exp(x < zero ? x : -x);
    const T inverse = one / (one + e);
    const T s = x < zero ? e * inverse : inverse;
    // s (1 + x (1 - s)), with 1 - s computed as sigmoid(-x).
    const T complement = x < zero ? inverse : e * inverse;
    return {at_least_far_left(x) * s, s * (one + within_far(x) * complement)};
  } else if constexpr (kind == Activation::gelu) {
    const T root = T(0.398942280401432677939946059934);  // 1 / sqrt(2 pi)
    const T bounded = within_far(x);
    const T cdf = Math::normal_cdf(bounded);
    return {at_least_far_left(x) * cdf, cdf + bounded * (root * Math::bell(bounded))};
  } else if constexpr (kind == Activation::softplus) {
    const T t = alpha * x;
    const T magnitude = t < zero ? -t : t;
    // The rounding of alpha x would cost |alpha x| units in the exponential: put it back.
    const T rest = magnitude < kFar<T> ? Math::fma(alpha, x, -t) : zero;
    const T e = Math::exp(-magnitude) * (one + (t < zero ? rest : -rest));
    const T inverse = one / (one + e);
    return {(x > zero ? x : zero) + Math::log1p(e) / alpha, t < zero ? e * inverse : inverse};
  } else {
    static_assert(kind == Activation::elu);
    const T below = x > zero ? zero : x;
    const T value = alpha * Math::expm1(below);
    return {x >= zero ? x : value, x > zero ? one : alpha * Math::exp(below)};
  }
}

}  // namespace polarity
