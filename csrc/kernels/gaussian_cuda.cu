// Compiled with -fmad=false: the bits must be those of the CPU backend.
#include "../device/launch.cuh"
#include "gaussian.cuh"
#include "gaussian.h"

namespace polarity::cuda {

void gaussian(uint64_t seed, uint64_t offset, float* out, int64_t count, void* stream) {
  if (count == 0) return;
  constexpr int kBlock = 256;
  const int64_t grid = device::grid_for((count + 3) / 4 + 1, kBlock);
  device::launch("gaussian", gaussian_kernel, grid, kBlock, stream, seed, offset, out, count);
}

}  // namespace polarity::cuda
