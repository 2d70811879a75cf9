// Tells ThreadSanitizer what a CUDA thread is and what orders two of them. It takes every fiber for
// a thread, and the fibers for unordered, whatever the order they ran in: only a switch that says
// so passes on what a fiber has seen.
#include <sanitizer/tsan_interface.h>

#include <utility>

#include "emulator/checker.h"
#include "emulator/machine.h"

extern "C" {
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}

namespace polarity::emulator {
namespace {

constexpr unsigned kOrdered = 0, kUnordered = __tsan_switch_to_fiber_no_sync;

// The fibers of the block before the last one. Threads of two blocks are never the same fiber, nor
// do their fibers share a stack: a fiber is ordered after itself.
std::vector<Fiber> spare;

void to_scheduler(unsigned flags) { __tsan_switch_to_fiber(machine.scheduler.context, flags); }

void* new_context(size_t thread) {
  void* const context = __tsan_create_fiber(0);
  __tsan_set_fiber_name(context, ("CUDA thread " + std::to_string(thread)).c_str());
  return context;
}

}  // namespace

namespace checker {

Aside::Aside() { __tsan_ignore_thread_begin(); }
Aside::~Aside() { __tsan_ignore_thread_end(); }

void launch_begins() {
  const Aside aside;
  machine.scheduler.context = __tsan_get_current_fiber();
  for (size_t i = spare.size(); i < machine.threads.size(); ++i) {
    Fiber& fiber = machine.threads[i].fiber;
    spare.push_back(fiber);
    spare[i].stack = allocate_stack(fiber.stack_bytes);
    spare[i].context = new_context(i);
    fiber.context = new_context(i);
  }
}

void launch_ends() {
  for (size_t i = 0; i < machine.threads.size(); ++i) {
    for (const Fiber* fiber : {&machine.threads[i].fiber, &spare[i]}) {
      __tsan_switch_to_fiber(fiber->context, kUnordered);
      to_scheduler(kOrdered);
    }
  }
}

void block_begins() {
  for (size_t i = 0; i < static_cast<size_t>(machine.block_threads); ++i) {
    std::swap(machine.threads[i].fiber, spare[i]);
    __tsan_switch_to_fiber(machine.threads[i].fiber.context, kOrdered);
    to_scheduler(kUnordered);
  }
}

// After the first round the last thread has seen what all have seen, after the second all have.
template <class Chosen>
void synchronise(int first, int count, const Chosen& chosen) {
  bool started = false;
  for (int round = 0; round < 2; ++round) {
    for (int i = first; i < first + count; ++i) {
      if (!chosen(i - first)) continue;
      __tsan_switch_to_fiber(machine.threads[static_cast<size_t>(i)].fiber.context,
                             started ? kOrdered : kUnordered);
      started = true;
    }
  }
  to_scheduler(kUnordered);
}

void block_synchronised() {
  synchronise(0, machine.block_threads, [](int) { return true; });
}

void lanes_synchronised(int warp, uint32_t mask) {
  synchronise(warp * kWarp, kWarp, [mask](int lane) { return (mask >> lane & 1) != 0; });
}

void array_begins(const SharedArray&) {}  // fresh memory, see Aside
void arrived(const Copy&) {}              // memcpy is seen

}  // namespace checker
}  // namespace polarity::emulator
