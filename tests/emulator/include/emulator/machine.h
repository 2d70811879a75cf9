// What the parts of the runtime share: the launch that is running. One at a time.
#pragma once

#include <string>
#include <vector>

#include "fiber.h"
#include "runtime.h"

namespace polarity::emulator {

constexpr int kWarp = 32;
constexpr size_t kTail = 128;  // bytes behind a shared array that nobody may touch

enum class State { ready, at_barrier, in_collective, ended };

struct Copy {
  unsigned char* to;
  const unsigned char* from;
  size_t bytes;
  int group;
  void* pc;  // of the call
};

struct Thread {
  Fiber fiber;
  State state = State::ended;
  Site site{};            // of the call it waits in
  const char* what = "";  // which call that is
  uint32_t mask = 0;      // lanes it waits for
  uint64_t value = 0;     // passed by it
  int source = 0;         // lane whose value it wants
  Exchanged received{};
  std::vector<Copy> copies;  // that were not waited for
  int copy_group = 0;        // that the next copy belongs to
};

struct SharedArray {
  const void* declaration;
  const char* name;
  Site site;
  unsigned char* memory;
  size_t bytes;
};

struct Machine {
  Fiber scheduler;
  std::vector<Thread> threads;  // grows to the largest block yet
  std::vector<SharedArray> shared;
  const std::function<void()>* kernel = nullptr;
  const char* name = "";
  int64_t grid = 0, block = 0;  // size; the block that runs
  int block_threads = 0;
  int current = -1;  // thread that runs, or -1: the scheduler
  size_t dynamic_shared = 0;
  std::string error;
};

extern Machine machine;

inline Thread& running_thread() { return machine.threads[static_cast<size_t>(machine.current)]; }

std::string text_of(const Site& site);

// Forgets the block's arrays; an error in words where one was overrun, else nothing.
std::string release_shared();

}  // namespace polarity::emulator
