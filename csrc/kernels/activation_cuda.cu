#include "../device/launch.cuh"
#include "activation.cuh"

namespace polarity::cuda {
namespace {

template <typename T>
using Kernel = void (*)(T, const T*, T*, T*, int64_t);

template <typename T>
Kernel<T> kernel_for(Activation kind) {
  switch (kind) {
    case Activation::relu: return activation_kernel<Activation::relu, T>;
    case Activation::leaky_relu: return activation_kernel<Activation::leaky_relu, T>;
    case Activation::tanh: return activation_kernel<Activation::tanh, T>;
    case Activation::sigmoid: return activation_kernel<Activation::sigmoid, T>;
    case Activation::silu: return activation_kernel<Activation::silu, T>;
    case Activation::gelu: return activation_kernel<Activation::gelu, T>;
    case Activation::softplus: return activation_kernel<Activation::softplus, T>;
    case Activation::elu: return activation_kernel<Activation::elu, T>;
  }
  throw std::invalid_argument("activation: unknown kind");
}

}  // namespace

template <typename T>
void activation(Activation kind, T alpha, const T* x, T* y, T* derivative, int64_t count,
                void* stream) {
  if (count == 0) return;
  constexpr int kBlock = 256;
  device::launch("activation", kernel_for<T>(kind), device::grid_for(count, kBlock), kBlock, stream,
                 alpha, x, y, derivative, count);
}

template void activation<float>(Activation, float, const float*, float*, float*, int64_t, void*);
template void activation<double>(Activation, double, const double*, double*, double*, int64_t,
                                 void*);

}  // namespace polarity::cuda
