// What the runtime tells the memory checker (checker.cpp), in the builds that have one.
#pragma once

#include "machine.h"

namespace polarity::emulator::checker {

#ifdef POLARITY_CHECKED
void launch_begins();
void block_begins();
void array_begins(const SharedArray& array);
void block_synchronised();
void lanes_synchronised(int warp, uint32_t mask);
void arrived(const Copy& copy);
#else
inline void launch_begins() {}
inline void block_begins() {}
inline void array_begins(const SharedArray&) {}
inline void block_synchronised() {}
inline void lanes_synchronised(int, uint32_t) {}
inline void arrived(const Copy&) {}
#endif

}  // namespace polarity::emulator::checker
