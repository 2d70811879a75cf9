// What device code is written in. Kernels include only csrc/device, so that the same .cuh compiles
// with nvcc and with g++ against the execution model of tests/emulator, which defines these names
// too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host_device.h"

#ifdef POLARITY_EMULATED
#include "emulator/device.h"
#else
#include <cuda_runtime.h>

#define POLARITY_DEVICE __device__ __forceinline__
#define POLARITY_GLOBAL __global__
// Of a kernel: as few registers that so many blocks of so many threads fit into a multiprocessor.
#define POLARITY_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)

// Shared memory is declared through macros because an execution model must allocate it per block
// instead of per program. `name` is a pointer to use, not an array to take the size of.
#define SHARED_ARRAY(type, name, count) __shared__ type name[count]
// As many bytes as the launch asked for (device::launch_shared), 16-byte aligned.
#define DYN_SHARED(type, name)                                          \
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[]; \
  type* const name = reinterpret_cast<type*>(dynamic_shared_bytes)

namespace polarity::device {

POLARITY_DEVICE void sync_block() { __syncthreads(); }

// Collectives of a warp: every lane of `mask` must come to the same call.
constexpr uint32_t kAllLanes = 0xffffffffu;

POLARITY_DEVICE int lane() { return static_cast<int>(threadIdx.x % 32); }

POLARITY_DEVICE void sync_warp(uint32_t mask = kAllLanes) { __syncwarp(mask); }

POLARITY_DEVICE uint32_t ballot(bool predicate, uint32_t mask = kAllLanes) {
  return __ballot_sync(mask, predicate);
}

template <typename T>
POLARITY_DEVICE T shuffle(T value, int source, uint32_t mask = kAllLanes) {
  return __shfl_sync(mask, value, source);
}

template <typename T>
POLARITY_DEVICE T shuffle_xor(T value, int other, uint32_t mask = kAllLanes) {
  return __shfl_xor_sync(mask, value, other);
}

}  // namespace polarity::device
#endif

namespace polarity::device {

// Flat 64-bit thread index and grid size: outputs may exceed 2^31 elements.
POLARITY_DEVICE int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

POLARITY_DEVICE int64_t grid_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// The number, as if the compiler could not know it: what is made of it in a loop is not made before
// the loop, to be kept in registers.
POLARITY_DEVICE int64_t made_here(int64_t number) {
#ifndef POLARITY_EMULATED
  asm volatile("" : "+l"(number));
#endif
  return number;
}

POLARITY_DEVICE int count_bits(uint32_t bits) {
#ifdef POLARITY_EMULATED
  return __builtin_popcount(bits);
#else
  return __popc(bits);
#endif
}

// 1 / sqrt(x), to an ulp or so, in the time of one of the two.
POLARITY_DEVICE double inverse_root(double x) {
#ifdef POLARITY_EMULATED
  return 1.0 / __builtin_sqrt(x);
#else
  return rsqrt(x);
#endif
}

}  // namespace polarity::device
