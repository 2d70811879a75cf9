// Included before everything else in csrc/torch/*.cpp when those are built for the emulator: what
// they register for CUDA tensors of `polarity` becomes the CPU implementation of
// `polarity_emulated`; what they register for CPU tensors is left out.
#pragma once

#include <torch/csrc/stable/library.h>

#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(library, key, m) POLARITY_EMULATED_##key(m)
#define POLARITY_EMULATED_CUDA(m) _STABLE_TORCH_LIBRARY_IMPL(polarity_emulated, CPU, m, C10_UID)
#define POLARITY_EMULATED_CPU(m)                        \
  [[maybe_unused]] static void C10_CONCATENATE(unused_, \
                                               C10_UID)(torch::stable::detail::StableLibrary & m)

#undef STABLE_TORCH_LIBRARY
#define STABLE_TORCH_LIBRARY(library, m) STABLE_TORCH_LIBRARY_FRAGMENT(polarity_emulated, m)
