// The execution model: a grid runs block after block, a block's threads are fibers that run one at
// a time until they wait or end. What may run next is chosen forward, in reverse or at random, so
// that a kernel which counts on an order is found out. Errors are thrown from launch().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace polarity::emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct Site {  // where in the kernel's source
  const char* file;
  int line;
};

inline bool operator==(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || std::string(a.file) == b.file);
}

// --- for device code -----------------------------------------------------------------------------

Dim3 thread_index();
Dim3 block_index();
Dim3 block_size();
Dim3 grid_size();
int lane();

void sync_block(Site site);

struct Exchanged {
  uint64_t value;    // what lane `source` passed
  uint32_t nonzero;  // lanes that passed anything but zero
};

// Every collective of a warp: waits until all lanes of `mask` are at the same call with the same
// mask.
Exchanged exchange(const char* what, uint32_t mask, uint64_t value, int source, Site site);

// What every lane of the warp passes: `all` has room for 32 times `bytes`.
void all_gather(const char* what, const void* mine, size_t bytes, void* all, Site site);

// Copies that happen no sooner than they are waited for.
void copy_async(void* shared, const void* global, size_t bytes);
void copy_async_commit();
void copy_async_wait(int pending_groups);

// The block's array of that declaration: 0xff in every byte, and nothing behind it may be touched.
// `declaration` is an address that no other array's declaration has.
void* shared_array(const void* declaration, const char* name, size_t bytes, Site site);
void* dynamic_shared(Site site);

// Ends the launch with an error that names the running thread. Called from a fiber.
[[noreturn]] void fail(const std::string& what);

// --- for the host --------------------------------------------------------------------------------

void launch(const char* name, int64_t grid, int block, size_t dynamic_shared,
            const std::function<void()>& kernel);

enum class Order { forward, reverse, random };

// How the next launches order threads and blocks.
void schedule(Order order, uint64_t seed);

// Launches from now on run the last blocks of their grid alone; 0: all of them. What a grid of
// 2^31 threads does at its end can be seen so.
void run_last_blocks(int64_t count);

}  // namespace polarity::emulator
