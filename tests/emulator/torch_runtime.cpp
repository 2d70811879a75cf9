// What csrc/torch asks of CUDA: there is one device and one stream, and both are the CPU.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>

#include "emulator/runtime.h"

extern "C" {
// In place of libtorch's (the library is linked with -Bsymbolic): it has no guard for CPU devices.
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return AOTI_TORCH_SUCCESS;
}
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return AOTI_TORCH_SUCCESS; }

// For the tests, through ctypes: 0 forward, 1 reverse, 2 random.
__attribute__((visibility("default"))) void polarity_emulator_schedule(int order, uint64_t seed) {
  polarity::emulator::schedule(static_cast<polarity::emulator::Order>(order), seed);
}

// 0: all blocks.
__attribute__((visibility("default"))) void polarity_emulator_run_last_blocks(int64_t count) {
  polarity::emulator::run_last_blocks(count);
}
}

namespace polarity {
void* current_cuda_stream(int32_t) { return nullptr; }
}  // namespace polarity
