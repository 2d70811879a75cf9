// Memory that is asked for before it is needed, where a processor does not foresee it.
#pragma once

#include <cstdint>

#include "cpu_isa.h"

namespace polarity::cpu {

// Every cache line of the numbers.
template <typename T>
POLARITY_INLINE void prefetch(const T* numbers, int64_t count) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(numbers + i);
}

}  // namespace polarity::cpu
