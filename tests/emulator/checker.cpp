// Knows every read and write of device code: g++ -fsanitize=thread puts a call before each, and
// here, instead of ThreadSanitizer's runtime, are the functions it calls. That runtime knows
// operating system threads; this one knows blocks, warps and barriers, so what it reports is exact:
//   - two threads touch a byte, one of them writes, and neither a barrier nor a collective of
//     their warp lies between; in different blocks nothing can lie between;
//   - a byte of shared memory is read that nobody has written;
//   - an access leaves a shared array, or is not aligned to its size.
#include "emulator/checker.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <unordered_map>

namespace polarity::emulator {
namespace {

struct Access {
  int64_t block = -1;  // -1: there was none
  int thread = 0;
  uint32_t barriers = 0;  // of the block, before it
  uint32_t clock = 0;     // of the thread
  void* pc = nullptr;
};

constexpr int kReads = 3;  // remembered for each byte: the last ones that are not ordered

struct Byte {
  Access write;
  std::array<Access, kReads> reads;
};

constexpr uintptr_t kPage = 1024;
using Page = std::array<Byte, kPage>;
std::unordered_map<uintptr_t, Page> pages;  // by address / kPage
uintptr_t last_number = 0;
Page* last_page = nullptr;

uint32_t barriers;
// clocks[t][l]: what thread t knows of the clock of lane l of its warp, from collectives.
std::vector<std::array<uint32_t, kWarp>> clocks;

Byte& byte_at(uintptr_t address) {
  if (last_page == nullptr || last_number != address / kPage) {
    last_number = address / kPage;
    last_page = &pages[last_number];  // its address stays when the table grows
  }
  return (*last_page)[address % kPage];
}

Access now(void* pc) {
  const int thread = machine.current;
  return {machine.block, thread, barriers,
          clocks[static_cast<size_t>(thread)][static_cast<size_t>(thread % kWarp)], pc};
}

// Nothing orders the earlier access before the one that the running thread makes now.
bool races(const Access& earlier) {
  if (earlier.block < 0) return false;
  if (earlier.block != machine.block) return true;
  if (earlier.thread == machine.current || earlier.barriers < barriers) return false;
  if (earlier.thread / kWarp != machine.current / kWarp) return true;
  const auto& known = clocks[static_cast<size_t>(machine.current)];
  return known[static_cast<size_t>(earlier.thread % kWarp)] < earlier.clock;
}

// file:line of an instruction, by addr2line where it is installed.
std::string place_of(void* pc) {
  Dl_info info{};
  if (dladdr(pc, &info) == 0 || info.dli_fname == nullptr) return "an unknown place";
  const auto offset = static_cast<char*>(pc) - static_cast<char*>(info.dli_fbase) - 1;
  char command[1024], line[512] = "";
  std::snprintf(command, sizeof command, "addr2line -e '%s' 0x%tx 2>/dev/null", info.dli_fname,
                offset);
  // NOLINTNEXTLINE(bugprone-command-processor): a test, of a library built a moment ago
  if (FILE* pipe = popen(command, "r")) {
    if (std::fgets(line, sizeof line, pipe) == nullptr) line[0] = 0;
    pclose(pipe);
  }
  std::string place(line);
  place.resize(std::min(place.size(), place.find_first_of(" \n")));  // "(discriminator 2)" follows
  if (place.rfind("./", 0) == 0) place.erase(0, 2);
  return place.empty() || place[0] == '?' ? std::string(info.dli_fname) : place;
}

std::string described(const char* verb, const Access& access) {
  return std::string(verb) + " by thread " + std::to_string(access.thread) + " of block " +
         std::to_string(access.block) + " at " + place_of(access.pc);
}

const SharedArray* array_around(uintptr_t address) {
  for (const SharedArray& array : machine.shared) {
    if (address - reinterpret_cast<uintptr_t>(array.memory) < array.bytes + kTail) return &array;
  }
  return nullptr;
}

void check(void* pointer, size_t size, bool writes, void* pc) {
  if (machine.current < 0) return;  // host code of the same file
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const Fiber& own = machine.threads[static_cast<size_t>(machine.current)].fiber;
  if (address - reinterpret_cast<uintptr_t>(own.stack) < own.stack_bytes) return;
  const SharedArray* array = array_around(address);
  const std::string what = array ? std::string("shared array ") + array->name : "global memory";
  if (array && address + size > reinterpret_cast<uintptr_t>(array->memory) + array->bytes) {
    fail(std::string(writes ? "write" : "read") + " past the end of " + what + " of " +
         std::to_string(array->bytes) + " bytes, at " + place_of(pc));
  }
  if (size <= 16 && address % size != 0) {
    fail(std::to_string(size) + "-byte access to an address that is no multiple of it, at " +
         place_of(pc));
  }
  const Access access = now(pc);
  const auto report = [&](const char* verb, const Access& earlier) {
    fail("race in " + what + ": " + described(writes ? "written" : "read", access) + ", " +
         described(verb, earlier) + ", and nothing orders them");
  };
  for (size_t i = 0; i < size; ++i) {
    Byte& byte = byte_at(address + i);
    if (races(byte.write)) report("written", byte.write);
    if (writes) {
      for (const Access& read : byte.reads) {
        if (races(read)) report("read", read);
      }
      byte = {access, {}};
      continue;
    }
    if (array && byte.write.block < 0) {
      fail("read of " + what + " where nothing was written yet, at " + place_of(pc));
    }
    // In the place of an earlier read that is ordered before this one, or else of the first.
    Access* place = byte.reads.data();
    for (Access& read : byte.reads) {
      if (!races(read)) place = &read;
    }
    *place = access;
  }
}

}  // namespace

namespace checker {

void launch_begins() {
  pages.clear();
  last_page = nullptr;
  clocks.resize(machine.threads.size());
}

void launch_ends() {}

void block_begins() {
  barriers = 0;
  for (auto& known : clocks) known.fill(0);
  for (size_t t = 0; t < clocks.size(); ++t) clocks[t][t % kWarp] = 1;
}

void array_begins(const SharedArray& array) {
  const auto first = reinterpret_cast<uintptr_t>(array.memory);
  for (size_t i = 0; i < array.bytes; ++i) byte_at(first + i) = {};
}

void block_synchronised() { ++barriers; }

void lanes_synchronised(int warp, uint32_t mask) {
  std::array<uint32_t, kWarp> joined{};
  const auto each = [&](auto&& body) {
    for (int lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1) != 0)
        body(clocks[static_cast<size_t>(warp) * kWarp + static_cast<size_t>(lane)], lane);
    }
  };
  each([&](auto& known, int) {
    for (size_t l = 0; l < kWarp; ++l) joined[l] = std::max(joined[l], known[l]);
  });
  each([&](auto& known, int lane) {
    known = joined;
    ++known[static_cast<size_t>(lane)];
  });
}

void arrived(const Copy& copy) {
  check(const_cast<unsigned char*>(copy.from), copy.bytes, false, copy.pc);
  check(copy.to, copy.bytes, true, copy.pc);
}

}  // namespace checker
}  // namespace polarity::emulator

#define POLARITY_HOOK(size)                                                 \
  extern "C" void __tsan_read##size(void* p) {                              \
    polarity::emulator::check(p, size, false, __builtin_return_address(0)); \
  }                                                                         \
  extern "C" void __tsan_write##size(void* p) {                             \
    polarity::emulator::check(p, size, true, __builtin_return_address(0));  \
  }                                                                         \
  extern "C" void __tsan_unaligned_read##size(void* p) {                    \
    polarity::emulator::check(p, size, false, __builtin_return_address(0)); \
  }                                                                         \
  extern "C" void __tsan_unaligned_write##size(void* p) {                   \
    polarity::emulator::check(p, size, true, __builtin_return_address(0));  \
  }

POLARITY_HOOK(1)
POLARITY_HOOK(2)
POLARITY_HOOK(4)
POLARITY_HOOK(8)
POLARITY_HOOK(16)

extern "C" {
void __tsan_read_range(void* p, size_t size) {
  polarity::emulator::check(p, size, false, __builtin_return_address(0));
}
void __tsan_write_range(void* p, size_t size) {
  polarity::emulator::check(p, size, true, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
}
