// Reads lines "architecture threads registers shared" and prints, for each, the percentage of a
// multiprocessor's warps that can be resident, as NVIDIA's own cuda_occupancy.h counts them.
// Needs no GPU. Built and run by resources.py.
#include <cuda_occupancy.h>
#include <stdio.h>

struct Architecture {
  int number, threads, shared_kb, optin_kb;  // of a multiprocessor, and of a block at most
};

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
static const Architecture kArchitectures[] = {
    {80, 2048, 164, 163}, {86, 1536, 100, 99},   {89, 1536, 100, 99},
    {90, 2048, 228, 227}, {100, 2048, 228, 227}, {120, 1536, 100, 99},
};

int main() {
  int number, threads, registers, shared;
  while (scanf("%d %d %d %d", &number, &threads, &registers, &shared) == 4) {
    cudaOccDeviceProp device;
    for (const Architecture& found : kArchitectures) {
      if (found.number != number) continue;
      device.computeMajor = number / 10;
      device.computeMinor = number % 10;
      device.maxThreadsPerBlock = 1024;
      device.maxThreadsPerMultiprocessor = found.threads;
      device.regsPerBlock = device.regsPerMultiprocessor = 65536;
      device.warpSize = 32;
      device.sharedMemPerBlock = 48 << 10;
      device.sharedMemPerMultiprocessor = static_cast<size_t>(found.shared_kb) << 10;
      device.sharedMemPerBlockOptin = static_cast<size_t>(found.optin_kb) << 10;
      device.reservedSharedMemPerBlock = 1024;
      device.numSms = 1;
    }
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = static_cast<size_t>(shared);
    kernel.maxDynamicSharedSizeBytes = 0;
    kernel.numBlockBarriers = 1;
    cudaOccDeviceState state;
    cudaOccResult result;
    const cudaOccError error =
        cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, 0);
    if (error != CUDA_OCC_SUCCESS) return 1;
    const int resident = result.activeBlocksPerMultiprocessor * threads;
    printf("%d\n", 100 * resident / device.maxThreadsPerMultiprocessor);
  }
  return 0;
}
