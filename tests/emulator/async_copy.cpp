// Asynchronous copies, at their latest: a kernel that does not wait finds its shared memory as it
// was.
#include <algorithm>
#include <cstring>

#include "emulator/checker.h"
#include "emulator/machine.h"

namespace polarity::emulator {

void copy_async(void* shared, const void* global, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global);
  if (address % bytes != 0) fail("copy_async between addresses that are not aligned to its bytes");
  const checker::Aside aside;
  Thread& thread = running_thread();
  thread.copies.push_back({static_cast<unsigned char*>(shared),
                           static_cast<const unsigned char*>(global), bytes, thread.copy_group,
                           __builtin_return_address(0)});
}

void copy_async_commit() { ++running_thread().copy_group; }

void copy_async_wait(int pending_groups) {
  Thread& thread = running_thread();
  const int last = thread.copy_group - pending_groups;  // groups before it have arrived
  const auto waits = [&](const Copy& copy) { return copy.group >= last; };
  const auto end = std::stable_partition(thread.copies.begin(), thread.copies.end(), waits);
  for (auto copy = end; copy != thread.copies.end(); ++copy) {
    checker::arrived(*copy);
    std::memcpy(copy->to, copy->from, copy->bytes);
  }
  thread.copies.erase(end, thread.copies.end());
}

}  // namespace polarity::emulator
