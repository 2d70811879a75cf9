// Functions that host compilers and device code share. Always inlined, so that a CPU kernel built
// for several instruction sets carries its own copy for each.
#pragma once

#ifdef __CUDACC__
#define POLARITY_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define POLARITY_HOST_DEVICE inline __attribute__((always_inline))
#endif
