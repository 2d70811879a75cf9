// Fills an array with consecutive numbers of a counter-based stream: the loop that gaussian and
// uniform share on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu_isa.h"

namespace polarity::cpu {

template <typename T, int n>
struct Numbers {
  T value[n];
};

// Numbers first .. first + count of a stream in which every counter makes `n` numbers,
// make(seed, counter) -> Numbers<T, n>. `first` need not be a multiple of n.
template <class Make, typename T, int n>
struct CounterStream {
  static constexpr int64_t kLanes = 16;         // counters per step: what the vectoriser works on
  static constexpr int64_t kStep = n * kLanes;  // numbers per step

  static POLARITY_INLINE void step(uint64_t seed, uint64_t counter, T* out) {
    T lanes[n][kLanes];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const Numbers<T, n> made = Make::make(seed, counter + static_cast<uint64_t>(lane));
      for (int i = 0; i < n; ++i) lanes[i][lane] = made.value[i];
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      for (int i = 0; i < n; ++i) out[n * lane + i] = lanes[i][lane];
    }
  }

  static POLARITY_INLINE void fill(uint64_t seed, uint64_t first, T* out, int64_t count) {
    T numbers[kStep];
    int64_t skip = static_cast<int64_t>(first % n);
    uint64_t counter = first / n;
    for (int64_t done = 0; done < count; counter += kLanes) {
      const int64_t take = std::min(kStep - skip, count - done);
      if (take == kStep) {
        step(seed, counter, out + done);
      } else {
        step(seed, counter, numbers);
        std::copy_n(numbers + skip, take, out + done);
      }
      done += take;
      skip = 0;
    }
  }
};

}  // namespace polarity::cpu
