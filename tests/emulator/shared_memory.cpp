// Shared memory: every array of a block is an allocation of its own, so that AddressSanitizer sees
// its ends; in builds without it the bytes behind are looked at when the block has ended.
#include <algorithm>
#include <cstring>
#include <new>

#include "emulator/checker.h"
#include "emulator/machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#endif

namespace polarity::emulator {
namespace {

constexpr size_t kStaticLimit = 48 << 10;  // ptxas refuses more
constexpr size_t kLimit = 99 << 10;  // of static and dynamic together, see csrc/device/launch.cuh
constexpr std::align_val_t kAlignment{256};
constexpr char kDynamic[] = "(dynamic)";  // name and declaration

void* array_of(const void* declaration, const char* name, size_t bytes, Site site) {
  const checker::Aside aside;
  size_t fixed = 0, total = 0;
  for (const SharedArray& array : machine.shared) {
    if (array.declaration == declaration) return array.memory;
    total += array.bytes;
    fixed += array.name == kDynamic ? 0 : array.bytes;
  }
  if (name != kDynamic && fixed + bytes > kStaticLimit) {
    fail(std::string("shared array ") + name + " at " + text_of(site) + " brings the block to " +
         std::to_string(fixed + bytes) + " bytes; declared arrays may have " +
         std::to_string(kStaticLimit));
  }
  if (total + bytes > kLimit) {
    fail("shared memory at " + text_of(site) + " comes to " + std::to_string(total + bytes) +
         " bytes; every supported GPU has " + std::to_string(kLimit));
  }
  auto* memory = static_cast<unsigned char*>(::operator new(bytes + kTail, kAlignment));
  std::memset(memory, 0xff, bytes + kTail);  // NaN in float and double, -1 in integers
  ASAN_POISON_MEMORY_REGION(memory + bytes, kTail);
  machine.shared.push_back({declaration, name, site, memory, bytes});
  checker::array_begins(machine.shared.back());
  return memory;
}

}  // namespace

void* shared_array(const void* declaration, const char* name, size_t bytes, Site site) {
  return array_of(declaration, name, bytes, site);
}

void* dynamic_shared(Site site) {
  if (machine.dynamic_shared == 0) {
    fail("DYN_SHARED at " + text_of(site) + ", but the launch gave no dynamic shared memory");
  }
  return array_of(kDynamic, kDynamic, machine.dynamic_shared, site);
}

std::string release_shared() {
  const checker::Aside aside;
  std::string error;
  for (const SharedArray& array : machine.shared) {
    unsigned char* const tail = array.memory + array.bytes;
    ASAN_UNPOISON_MEMORY_REGION(tail, kTail);
    if (!std::all_of(tail, tail + kTail, [](unsigned char byte) { return byte == 0xff; })) {
      error = std::string("write past the end of shared array ") + array.name + " of " +
              std::to_string(array.bytes) + " bytes, declared at " + text_of(array.site);
    }
    ::operator delete(array.memory, kAlignment);
  }
  machine.shared.clear();
  return error;
}

}  // namespace polarity::emulator
