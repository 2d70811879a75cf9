// From tensors or arrays to the ModulateLayout of modulate_tangents.
#pragma once

#include <optional>

#include "../kernels/modulate_tangents.h"
#include "layout.h"

namespace polarity {

// t [L, B, C, *] and x [B, C, *], not empty, as they lie in memory, or nothing where that is
// neither channels first nor channels last. (polarity_ext/ops/modulate_tangents.py says the same
// for fake tensors.)
template <class Array>
std::optional<ModulateLayout> find_modulate_layout(const Array& t, const Array& x) {
  const int64_t channels = x.size(1);
  int64_t pixels = 1;
  for (int64_t i = 2; i < x.dim(); ++i) pixels *= x.size(i);
  if (!is_dense_from(t, 2) || !same_order(t, 1, x, 0)) return std::nullopt;
  if (x.size(0) > 1 && x.stride(0) != channels * pixels) return std::nullopt;
  const bool first = channels == 1 || x.stride(1) == pixels;
  if (!first && x.stride(1) != 1) return std::nullopt;
  return ModulateLayout{t.size(0), x.size(0), channels, pixels, !first, t.stride(0)};
}

}  // namespace polarity
