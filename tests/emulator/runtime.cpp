#include "emulator/runtime.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <numeric>
#include <stdexcept>

#include "emulator/checker.h"
#include "emulator/machine.h"

namespace polarity::emulator {

Machine machine;

std::string text_of(const Site& site) {
  return std::string(site.file) + ":" + std::to_string(site.line);
}

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStack = 256 << 10;
#else
constexpr size_t kStack = 64 << 10;
#endif

Order chosen_order = Order::forward;
uint64_t random_state = 1;

uint64_t random_below(uint64_t bound) {  // splitmix64
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (z ^ (z >> 31)) % bound;
}

int64_t last_blocks = 0;

void back_to_scheduler() { switch_to(running_thread().fiber, machine.scheduler); }

void thread_main() {
  arrived();
  (*machine.kernel)();
  running_thread().state = State::ended;
  back_to_scheduler();
  __builtin_unreachable();
}

std::string status_of(const Thread& thread) {
  switch (thread.state) {
    case State::ended: return "ended";
    case State::ready: return "can run";
    case State::at_barrier: return "wait in sync_block at " + text_of(thread.site);
    case State::in_collective: break;
  }
  char mask[16];
  std::snprintf(mask, sizeof mask, "0x%08x", thread.mask);
  return std::string("wait in ") + thread.what + " of lanes " + mask + " at " +
         text_of(thread.site);
}

// "threads 0..31 wait in ...; threads 32..63 ended"
std::string status_of_block() {
  std::string text;
  int runs = 0;
  for (int first = 0; first < machine.block_threads; ++runs) {
    const std::string status = status_of(machine.threads[static_cast<size_t>(first)]);
    int last = first;
    while (last + 1 < machine.block_threads &&
           status_of(machine.threads[static_cast<size_t>(last) + 1]) == status) {
      ++last;
    }
    if (runs == 8) return text + "; ...";
    text += (runs ? "; threads " : "threads ") + std::to_string(first) + ".." +
            std::to_string(last) + " " + status;
    first = last + 1;
  }
  return text;
}

void block_error(const std::string& what) {
  machine.error = std::string("kernel ") + machine.name + ", block " +
                  std::to_string(machine.block) + ": " + what;
}

// Lets every group of lanes go that is complete in a collective. False: there was none.
bool release_collectives() {
  bool any = false;
  for (int warp = 0; warp * kWarp < machine.block_threads; ++warp) {
    Thread* lanes = &machine.threads[static_cast<size_t>(warp) * kWarp];
    const int count = std::min(kWarp, machine.block_threads - warp * kWarp);
    for (int lane = 0; lane < count; ++lane) {
      if (lanes[lane].state != State::in_collective) continue;
      const Thread first = lanes[lane];
      uint32_t here = 0, nonzero = 0;
      for (int other = 0; other < count; ++other) {
        const Thread& thread = lanes[other];
        if (thread.state == State::in_collective && thread.mask == first.mask &&
            thread.site == first.site && (first.mask >> other & 1) != 0) {
          here |= 1u << other;
          nonzero |= (thread.value != 0 ? 1u : 0u) << other;
        }
      }
      if (here != first.mask) continue;
      for (int other = 0; other < count; ++other) {
        if ((here >> other & 1) == 0) continue;
        lanes[other].received = {lanes[lanes[other].source].value, nonzero};
        lanes[other].state = State::ready;
      }
      checker::lanes_synchronised(warp, here);
      any = true;
    }
  }
  return any;
}

// Nothing can run: lets the barrier go, or says why nobody can.
void release_barrier() {
  Thread* const threads = machine.threads.data();
  Thread* const end = threads + machine.block_threads;
  const bool all_wait =
      std::all_of(threads, end, [](const Thread& t) { return t.state == State::at_barrier; });
  const bool same =
      std::all_of(threads, end, [&](const Thread& t) { return t.site == threads[0].site; });
  if (all_wait && same) {
    for (Thread* t = threads; t != end; ++t) t->state = State::ready;
    checker::block_synchronised();
  } else if (std::none_of(threads, end,
                          [](const Thread& t) { return t.state == State::in_collective; })) {
    block_error("divergent barrier: " + status_of_block());
  } else {
    block_error("deadlock: " + status_of_block());
  }
}

void run_block(std::vector<int>& order) {
  checker::block_begins();
  for (int i = 0; i < machine.block_threads; ++i) {
    Thread& thread = machine.threads[static_cast<size_t>(i)];
    prepare(thread.fiber, thread_main);
    thread.state = State::ready;
    thread.copies.clear();
  }
  for (;;) {
    if (chosen_order == Order::random) {
      for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
    }
    bool ran = false;
    for (const int i : order) {
      if (machine.threads[static_cast<size_t>(i)].state != State::ready) continue;
      machine.current = i;
      switch_to(machine.scheduler, running_thread().fiber);
      machine.current = -1;
      if (!machine.error.empty()) return;
      ran = true;
    }
    if (ran || release_collectives()) continue;
    if (std::all_of(order.begin(), order.end(), [](int i) {
          return machine.threads[static_cast<size_t>(i)].state == State::ended;
        })) {
      return;
    }
    release_barrier();
    if (!machine.error.empty()) return;
  }
}

// Blocks in a random order without a list of them: steps that share no factor with their number.
int64_t random_step(int64_t grid) {
  for (;;) {
    const auto step = static_cast<int64_t>(1 + random_below(static_cast<uint64_t>(grid)));
    if (std::gcd(step, grid) == 1) return step;
  }
}

}  // namespace

Dim3 thread_index() { return {static_cast<unsigned>(machine.current), 0, 0}; }
Dim3 block_index() { return {static_cast<unsigned>(machine.block), 0, 0}; }
Dim3 block_size() { return {static_cast<unsigned>(machine.block_threads), 1, 1}; }
Dim3 grid_size() { return {static_cast<unsigned>(machine.grid), 1, 1}; }
int lane() { return machine.current % kWarp; }

void fail(const std::string& what) {
  {
    const checker::Aside aside;
    block_error("thread " + std::to_string(machine.current) + ": " + what);
  }
  back_to_scheduler();
  __builtin_unreachable();
}

void sync_block(Site site) {
  running_thread().state = State::at_barrier;
  running_thread().site = site;
  back_to_scheduler();
}

Exchanged exchange(const char* what, uint32_t mask, uint64_t value, int source, Site site) {
  const auto refuse = [&](const std::string& why) {
    fail(std::string(what) + " at " + text_of(site) + ": " + why);
  };
  if ((mask >> lane() & 1) == 0) refuse("lane " + std::to_string(lane()) + " is not in its mask");
  if ((mask >> source & 1) == 0) {
    refuse("reads lane " + std::to_string(source) + ", which is not in the mask");
  }
  const int lanes = std::min(kWarp, machine.block_threads - machine.current / kWarp * kWarp);
  if (lanes < kWarp && mask >> lanes != 0) refuse("the mask names lanes that the block lacks");
  Thread& thread = running_thread();
  thread.state = State::in_collective;
  thread.site = site;
  thread.what = what;
  thread.mask = mask;
  thread.value = value;
  thread.source = source;
  back_to_scheduler();
  return thread.received;
}

void all_gather(const char* what, const void* mine, size_t bytes, void* all, Site site) {
  // Lanes pass where their part is; it stays there until all have left the second exchange.
  exchange(what, 0xffffffffu, reinterpret_cast<uintptr_t>(mine), lane(), site);
  const auto first = static_cast<size_t>(machine.current - lane());
  for (size_t i = 0; i < kWarp; ++i) {
    const auto part = machine.threads[first + i].value;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): lanes pass 64 bits, whatever they mean
    std::memcpy(static_cast<char*>(all) + i * bytes, reinterpret_cast<const void*>(part), bytes);
  }
  exchange(what, 0xffffffffu, reinterpret_cast<uintptr_t>(mine), lane(), site);
}

void run_last_blocks(int64_t count) { last_blocks = count; }

void schedule(Order order, uint64_t seed) {
  chosen_order = order;
  random_state = seed;
}

void launch(const char* name, int64_t grid, int block, size_t dynamic_shared,
            const std::function<void()>& kernel) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  while (machine.threads.size() < static_cast<size_t>(block)) {
    Thread& thread = machine.threads.emplace_back();
    thread.fiber.stack = allocate_stack(kStack);
    thread.fiber.stack_bytes = kStack;
  }
  machine.kernel = &kernel;
  machine.name = name;
  machine.grid = grid;
  machine.block_threads = block;
  machine.dynamic_shared = dynamic_shared;
  machine.error.clear();
  checker::launch_begins();

  std::vector<int> order(static_cast<size_t>(block));
  std::iota(order.begin(), order.end(), 0);
  if (chosen_order == Order::reverse) std::reverse(order.begin(), order.end());
  const bool random = chosen_order == Order::random;
  const int64_t step = random ? random_step(grid) : chosen_order == Order::reverse ? grid - 1 : 1;
  machine.block = chosen_order == Order::reverse ? grid - 1 : 0;
  for (int64_t done = 0; done < grid && machine.error.empty(); ++done) {
    if (last_blocks == 0 || machine.block >= grid - last_blocks) run_block(order);
    const std::string overrun = release_shared();
    if (machine.error.empty() && !overrun.empty()) block_error(overrun);
    machine.block = (machine.block + step) % grid;
  }
  checker::launch_ends();
  if (!machine.error.empty()) throw std::runtime_error(machine.error);
}

}  // namespace polarity::emulator
