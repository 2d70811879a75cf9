// Small kernels that are right, each with a twin that is wrong in one way. The twin must be
// reported by the variants that tests/emulator/test_programs.py names; the right one by none.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/device/launch.cuh"

namespace polarity::programs {

struct Program {
  // `run` launches the right or the wrong kernel and says whether its result is as it should be.
  Program(const char* name, bool (*run)(bool wrong));
  const char* name;
  bool (*run)(bool wrong);
};

std::vector<const Program*>& all();

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t grid, int block, Arguments... arguments) {
  device::launch("program", kernel, grid, block, nullptr, arguments...);
}

// 0, 1, 2, ...: exact in float, and so are their sums here.
inline std::vector<float> counting(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return values;
}

}  // namespace polarity::programs

// PROGRAM(name, wrong) { ... return as_it_should_be; }
#define PROGRAM(name, wrong)                                                  \
  static bool name##_run(bool wrong);                                         \
  static const ::polarity::programs::Program name##_entry(#name, name##_run); \
  static bool name##_run([[maybe_unused]] bool wrong)
