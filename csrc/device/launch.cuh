// The one place a kernel is launched from: checks the configuration, then the launch itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "portability.cuh"

namespace polarity::device {

constexpr int64_t kMaxGrid = 2147483647;   // blocks along x, every architecture since 3.0
constexpr int kMaxBlock = 1024;            // threads of a block
constexpr size_t kPlainShared = 48 << 10;  // bytes of shared memory that need no permission
constexpr size_t kMaxShared = 99 << 10;    // what 8.6, 8.9 and 12.0 allow; 8.0 and 9.0 have more

#ifndef POLARITY_EMULATED
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
#endif

// Blocks for a grid-stride loop over `work` items; more than fill the machine bring nothing.
inline int64_t grid_for(int64_t work, int block) {
  constexpr int64_t kEnough = int64_t{1} << 16;
  return std::clamp<int64_t>((work + block - 1) / block, 1, kEnough);
}

inline void check_launch(const char* name, int64_t grid, int block, size_t shared) {
  const auto refuse = [&](const std::string& what, const std::string& limit) {
    throw std::runtime_error(std::string(name) + ": " + what + " is outside " + limit);
  };
  if (grid < 1 || grid > kMaxGrid) {
    refuse("a grid of " + std::to_string(grid) + " blocks",
           "1.." + std::to_string(kMaxGrid) + "; split the batch");
  }
  if (block < 1 || block > kMaxBlock) {
    refuse("a block of " + std::to_string(block) + " threads", "1.." + std::to_string(kMaxBlock));
  }
  if (shared > kMaxShared) {
    refuse(std::to_string(shared) + " bytes of dynamic shared memory",
           "the " + std::to_string(kMaxShared) + " that every supported GPU has");
  }
}

// One-dimensional launch on `stream` (a cudaStream_t) with `shared` bytes for DYN_SHARED. No
// synchronisation: capturable in a graph.
template <class... Parameters, class... Arguments>
void launch_shared(const char* name, void (*kernel)(Parameters...), int64_t grid, int block,
                   size_t shared, void* stream, Arguments... arguments) {
  check_launch(name, grid, block, shared);
#ifdef POLARITY_EMULATED
  static_cast<void>(stream);
  emulator::launch(name, grid, block, shared,
                   [&] { kernel(static_cast<Parameters>(arguments)...); });
#else
  if (shared > kPlainShared) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared)),
          name);
  }
  const auto blocks = static_cast<unsigned>(grid);
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  kernel<<<blocks, block, shared, cuda_stream>>>(static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), name);
#endif
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), int64_t grid, int block, void* stream,
            Arguments... arguments) {
  launch_shared(name, kernel, grid, block, 0, stream, arguments...);
}

}  // namespace polarity::device
