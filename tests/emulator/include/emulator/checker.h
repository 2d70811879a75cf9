// What the runtime tells those who follow the accesses of device code, in the builds that have one:
// the checker (checker.cpp) or ThreadSanitizer (thread_sanitizer.cpp).
#pragma once

#include "machine.h"

namespace polarity::emulator::checker {

#ifdef POLARITY_CHECKED
void launch_begins();
void launch_ends();
void block_begins();
void array_begins(const SharedArray& array);
void block_synchronised();
void lanes_synchronised(int warp, uint32_t mask);
void arrived(const Copy& copy);
#else
inline void launch_begins() {}
inline void launch_ends() {}
inline void block_begins() {}
inline void array_begins(const SharedArray&) {}
inline void block_synchronised() {}
inline void lanes_synchronised(int, uint32_t) {}
inline void arrived(const Copy&) {}
#endif

// While one lives, what the runtime does on a device thread's behalf is not that thread's doing.
struct [[maybe_unused]] Aside {
#ifdef POLARITY_THREAD_SANITIZER
  Aside();
  ~Aside();
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;
#endif
};

}  // namespace polarity::emulator::checker
