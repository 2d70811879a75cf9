#include "activation.h"

#include "activation_point.h"
#include "cpu_isa.h"
#include "cpu_math.h"
#include "parallel.h"

namespace polarity::cpu {
namespace {

constexpr int64_t kGrain = 1 << 13;

template <Activation kind, typename T>
POLARITY_INLINE void apply(T alpha, const T* x, T* y, T* derivative, int64_t count) {
#pragma GCC ivdep  // the outputs are fresh allocations
  for (int64_t i = 0; i < count; ++i) {
    const auto point = activation_point<kind, VectorMath>(x[i], alpha);
    y[i] = point.y;
    derivative[i] = point.derivative;
  }
}

template <typename T>
POLARITY_INLINE void apply_kind(Activation kind, T alpha, const T* x, T* y, T* derivative,
                                int64_t count) {
  switch (kind) {
    case Activation::relu: return apply<Activation::relu>(alpha, x, y, derivative, count);
    case Activation::leaky_relu:
      return apply<Activation::leaky_relu>(alpha, x, y, derivative, count);
    case Activation::tanh: return apply<Activation::tanh>(alpha, x, y, derivative, count);
    case Activation::sigmoid: return apply<Activation::sigmoid>(alpha, x, y, derivative, count);
    case Activation::silu: return apply<Activation::silu>(alpha, x, y, derivative, count);
    case Activation::gelu: return apply<Activation::gelu>(alpha, x, y, derivative, count);
    case Activation::softplus: return apply<Activation::softplus>(alpha, x, y, derivative, count);
    case Activation::elu: return apply<Activation::elu>(alpha, x, y, derivative, count);
  }
}

template <Isa isa>
POLARITY_INLINE void apply_float_body(Activation kind, float alpha, const float* x, float* y,
                                      float* derivative, int64_t count) {
  apply_kind(kind, alpha, x, y, derivative, count);
}
template <Isa isa>
POLARITY_INLINE void apply_double_body(Activation kind, double alpha, const double* x, double* y,
                                       double* derivative, int64_t count) {
  apply_kind(kind, alpha, x, y, derivative, count);
}
POLARITY_ISA_VARIANTS(apply_float,
                      (Activation kind, float alpha, const float* x, float* y, float* derivative,
                       int64_t count),
                      (kind, alpha, x, y, derivative, count))
POLARITY_ISA_VARIANTS(apply_double,
                      (Activation kind, double alpha, const double* x, double* y,
                       double* derivative, int64_t count),
                      (kind, alpha, x, y, derivative, count))

void run(Activation kind, float alpha, const float* x, float* y, float* derivative, int64_t count) {
  apply_float(kind, alpha, x, y, derivative, count);
}
void run(Activation kind, double alpha, const double* x, double* y, double* derivative,
         int64_t count) {
  apply_double(kind, alpha, x, y, derivative, count);
}

}  // namespace

template <typename T>
void activation(Activation kind, T alpha, const T* x, T* y, T* derivative, int64_t count) {
  parallel_for(count, kGrain, [=](int64_t begin, int64_t end) {
    run(kind, alpha, x + begin, y + begin, derivative + begin, end - begin);
  });
}

template void activation<float>(Activation, float, const float*, float*, float*, int64_t);
template void activation<double>(Activation, double, const double*, double*, double*, int64_t);

}  // namespace polarity::cpu
