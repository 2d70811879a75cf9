#include "emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef POLARITY_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

#ifdef POLARITY_ASSEMBLY_SWITCH
// Saves what a callee must preserve, exchanges the stacks, restores.
asm(R"(
.text
.globl polarity_emulator_switch
.hidden polarity_emulator_switch
.type polarity_emulator_switch, @function
polarity_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size polarity_emulator_switch, .-polarity_emulator_switch
)");
extern "C" void polarity_emulator_switch(void** save, void* load);
#endif

namespace polarity::emulator {
namespace {
[[maybe_unused]] Fiber* leaving = nullptr;
}

void* allocate_stack(size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) throw std::bad_alloc();
  return static_cast<char*>(memory) + page;
}

void prepare(Fiber& fiber, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(fiber.stack,
                              fiber.stack_bytes);  // the last fiber may not have returned
#endif
#ifdef POLARITY_ASSEMBLY_SWITCH
  // Six registers, the address that `ret` goes to, and the alignment a call would have left.
  auto* top = static_cast<uintptr_t*>(const_cast<void*>(fiber.stack)) + fiber.stack_bytes / 8;
  *--top = 0;  // the end of every backtrace
  *--top = reinterpret_cast<uintptr_t>(entry);
  for (int i = 0; i < 6; ++i) *--top = 0;
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = const_cast<void*>(fiber.stack);
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  makecontext(&fiber.context, entry, 0);
#endif
}

void switch_to(Fiber& from, Fiber& to) {
  leaving = &from;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.stack_bytes);
#endif
#ifdef POLARITY_THREAD_SANITIZER
  __tsan_switch_to_fiber(to.context, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef POLARITY_ASSEMBLY_SWITCH
  polarity_emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, &leaving->stack, &leaving->stack_bytes);
#endif
}

void arrived() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &leaving->stack, &leaving->stack_bytes);
#endif
}

}  // namespace polarity::emulator
