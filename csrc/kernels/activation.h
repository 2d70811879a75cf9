// y = f(x) and f'(x) in one pass over x, for the activations of generators.
#pragma once

#include <cstdint>

namespace polarity {

// The order is part of the op's interface (polarity_ext/ops/activation.py lists the same names).
enum class Activation : int64_t {
  relu = 0,
  leaky_relu = 1,  // alpha: slope left of zero
  tanh = 2,
  sigmoid = 3,
  silu = 4,
  gelu = 5,      // the exact one, x Phi(x)
  softplus = 6,  // alpha: beta, log(1 + exp(beta x)) / beta
  elu = 7,       // alpha: the limit at -infinity is -alpha
};
constexpr int64_t kActivations = 8;

namespace cpu {
template <typename T>
void activation(Activation kind, T alpha, const T* x, T* y, T* derivative, int64_t count);
}
namespace cuda {
template <typename T>
void activation(Activation kind, T alpha, const T* x, T* y, T* derivative, int64_t count,
                void* stream);
}

}  // namespace polarity
