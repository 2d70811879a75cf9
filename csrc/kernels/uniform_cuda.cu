// Compiled with -fmad=false: the bits must be those of the CPU backend.
#include "../device/launch.cuh"
#include "uniform.cuh"
#include "uniform.h"

namespace polarity::cuda {

constexpr int kBlock = 256;

template <>
void uniform<float>(uint64_t seed, uint64_t offset, float* out, int64_t count, void* stream) {
  if (count == 0) return;
  device::launch("uniform", uniform_float_kernel, device::grid_for(count, kBlock), kBlock, stream,
                 seed, offset, out, count);
}

template <>
void uniform<double>(uint64_t seed, uint64_t offset, double* out, int64_t count, void* stream) {
  if (count == 0) return;
  device::launch("uniform", uniform_double_kernel, device::grid_for(count, kBlock), kBlock, stream,
                 seed, offset, out, count);
}

}  // namespace polarity::cuda
