// Switching between stacks. ucontext would do, but costs a system call (455 ns) a switch; the
// assembly costs 10 ns and is used where it can be.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && !defined(POLARITY_UCONTEXT)
#define POLARITY_ASSEMBLY_SWITCH
#else
#include <ucontext.h>
#endif

namespace polarity::emulator {

struct Fiber {
#ifdef POLARITY_ASSEMBLY_SWITCH
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  const void* stack =
      nullptr;  // its lowest address; of the scheduler's own stack, ASan finds it out
  size_t stack_bytes = 0;
#ifdef POLARITY_THREAD_SANITIZER
  void* context = nullptr;  // what ThreadSanitizer takes for a thread
#endif
};

// Memory for a fiber's stack, with a page below it that must not be touched; never given back.
void* allocate_stack(size_t bytes);

// The fiber starts in `entry` when first switched to. `entry` must call `arrived` first and never
// return.
void prepare(Fiber& fiber, void (*entry)());
void switch_to(Fiber& from, Fiber& to);
void arrived();

}  // namespace polarity::emulator
