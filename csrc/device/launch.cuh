// The one place a kernel is launched from: checks the grid, then the launch itself.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "portability.cuh"

namespace polarity::device {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    std::string message = std::string("CUDA error in ") + what + ": " + cudaGetErrorString(status);
    if (status == cudaErrorNoKernelImageForDevice) {
      message +=
          " (this build has no code for this GPU; `python -m polarity_ext.info` lists the"
          " built architectures)";
    }
    throw std::runtime_error(message);
  }
}

constexpr int64_t kMaxGrid = 2147483647;  // blocks along x, every architecture since 3.0

// Blocks for a grid-stride loop over `work` items; more than fill the machine bring nothing.
inline int64_t grid_for(int64_t work, int block) {
  constexpr int64_t kEnough = int64_t{1} << 16;
  return std::clamp<int64_t>((work + block - 1) / block, 1, kEnough);
}

// One-dimensional launch on `stream` (a cudaStream_t). No synchronisation: capturable in a graph.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), int64_t grid, int block, void* stream,
            Arguments... arguments) {
  if (grid < 1 || grid > kMaxGrid) {
    throw std::runtime_error(std::string(name) + ": a grid of " + std::to_string(grid) +
                             " blocks is outside 1.." + std::to_string(kMaxGrid) +
                             "; split the batch");
  }
  kernel<<<static_cast<unsigned>(grid), block, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), name);
}

}  // namespace polarity::device
