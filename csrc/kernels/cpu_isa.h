// One CPU kernel body, compiled for several instruction sets and chosen at run time, so that one
// binary runs everywhere and is fast where it can be. The body is an always_inline template over
// the instruction set; POLARITY_ISA_VARIANTS wraps it once per set.
#pragma once

#include <atomic>

namespace polarity::cpu {

enum class Isa { baseline, avx2, avx512 };

inline const char* name_of(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define POLARITY_X86_VARIANTS 1
inline bool is_supported(Isa isa) {
  __builtin_cpu_init();
  switch (isa) {
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    case Isa::avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::baseline: return true;
  }
  return false;
}
#else
inline bool is_supported(Isa isa) { return isa == Isa::baseline; }
#endif

// The set in use: the best one of this machine, until a test or a benchmark chooses a lesser one.
inline std::atomic<Isa>& isa_in_use() {
  static std::atomic<Isa> isa{is_supported(Isa::avx512) ? Isa::avx512
                              : is_supported(Isa::avx2) ? Isa::avx2
                                                        : Isa::baseline};
  return isa;
}

#define POLARITY_INLINE inline __attribute__((always_inline))

// Defines `void name(parameters)` that calls `name_body<isa>(arguments)` for the set in use.
#ifdef POLARITY_X86_VARIANTS
#define POLARITY_ISA_VARIANTS(name, parameters, arguments)                                    \
  __attribute__((                                                                             \
      target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))) void name##_avx512 parameters { \
    name##_body<Isa::avx512> arguments;                                                       \
  }                                                                                           \
  __attribute__((target("avx2,fma"))) void name##_avx2 parameters {                           \
    name##_body<Isa::avx2> arguments;                                                         \
  }                                                                                           \
  void name##_baseline parameters { name##_body<Isa::baseline> arguments; }                   \
  void name parameters {                                                                      \
    switch (isa_in_use().load(std::memory_order_relaxed)) {                                   \
      case Isa::avx512: return name##_avx512 arguments;                                       \
      case Isa::avx2: return name##_avx2 arguments;                                           \
      case Isa::baseline: return name##_baseline arguments;                                   \
    }                                                                                         \
  }
#else
#define POLARITY_ISA_VARIANTS(name, parameters, arguments) \
  void name parameters { name##_body<Isa::baseline> arguments; }
#endif

}  // namespace polarity::cpu
