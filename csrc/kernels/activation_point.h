// The formulas of the activations, shared by the CPU and CUDA backends. No derivative is formed
// as a difference of nearly equal numbers: 1 - tanh^2 has no correct digit left at x = 10, where
// sech^2 computed from exp(-2|x|) has them all.
//
// `Math` supplies exp and expm1 (argument <= 0), log1p (argument in [0, 1]), erfc (any argument)
// and gaussian(x) = exp(-x^2 / 2). NaN comes out where NaN goes in.
#pragma once

#include "../device/host_device.h"
#include "activation.h"

namespace polarity {

template <typename T>
struct ActivationPoint {
  T y, derivative;
};

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
    return {x < zero ? -value : value, T(4) * e * inverse * inverse};
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
    return {x * s, s * (one + x * complement)};
  } else if constexpr (kind == Activation::gelu) {
    const T phi_scale = T(0.398942280401432677939946059934);
    const T half_root = T(0.707106781186547524400844362105);
    const T cdf = T(0.5) * Math::erfc(-x * half_root);
    const T density = phi_scale * Math::gaussian(x);
    return {x * cdf, cdf + x * density};
  } else if constexpr (kind == Activation::softplus) {
    const T t = alpha * x;
    const T e = Math::exp(t < zero ? t : -t);
    const T inverse = one / (one + e);
    return {((t > zero ? t : zero) + Math::log1p(e)) / alpha, t < zero ? e * inverse : inverse};
  } else {
    static_assert(kind == Activation::elu);
    const T below = x > zero ? zero : x;
    const T value = alpha * Math::expm1(below);
    return {x > zero ? x : value, x > zero ? one : alpha * Math::exp(below)};
  }
}

}  // namespace polarity
