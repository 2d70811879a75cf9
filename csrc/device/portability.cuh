// What device code is written in. Kernels include only csrc/device, so that the same .cuh
// compiles with nvcc and against any other execution model that defines these names.
#pragma once

#include <cstdint>

#include "host_device.h"

#define POLARITY_DEVICE __device__ __forceinline__
#define POLARITY_GLOBAL __global__

// Shared memory is declared through a macro because other execution models must allocate it
// per block instead of per program.
#define SHARED_ARRAY(type, name, count) __shared__ type name[count]

namespace polarity::device {

// Flat 64-bit thread index and grid size: outputs may exceed 2^31 elements.
POLARITY_DEVICE int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

POLARITY_DEVICE int64_t grid_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

POLARITY_DEVICE void sync_block() { __syncthreads(); }

}  // namespace polarity::device
