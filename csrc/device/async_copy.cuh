// cp.async (compute capability 8.0): bytes from global to shared memory that a thread does not wait
// for. Copies are committed in groups; after wait<n>() all but the last n groups of the
// calling thread have arrived, after a barrier then those of all threads.
#pragma once

#include "portability.cuh"

namespace polarity::device {

// 16 bytes; both addresses are aligned to them.
POLARITY_DEVICE void copy_async(void* shared, const void* global) {
#ifdef POLARITY_EMULATED
  emulator::copy_async(shared, global, 16);
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
#endif
}

// One number, of 4 or 8 bytes. Through the first-level cache, unlike the other.
template <typename T>
POLARITY_DEVICE void copy_async_number(T* shared, const T* global) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
#ifdef POLARITY_EMULATED
  emulator::copy_async(shared, global, sizeof(T));
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(address), "l"(global),
               "n"(sizeof(T))
               : "memory");
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
