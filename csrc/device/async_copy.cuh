// cp.async (compute capability 8.0): 16 bytes from global to shared memory that a thread does not
// wait for. Copies are committed in groups; after wait<n>() all but the last n groups of the
// calling thread have arrived, after a barrier then those of all threads.
#pragma once

#include "portability.cuh"

namespace polarity::device {

// Both addresses are 16-byte aligned.
POLARITY_DEVICE void copy_async(void* shared, const void* global) {
#ifdef POLARITY_EMULATED
  emulator::copy_async(shared, global, 16);
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
#endif
}

POLARITY_DEVICE void copy_async_commit() {
#ifdef POLARITY_EMULATED
  emulator::copy_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int kPending>
POLARITY_DEVICE void copy_async_wait() {
#ifdef POLARITY_EMULATED
  emulator::copy_async_wait(kPending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

}  // namespace polarity::device
