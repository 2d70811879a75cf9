// From tensors or arrays to the GroupLayout of normalize_tangents.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "../kernels/normalize_tangents.h"
#include "layout.h"

namespace polarity {

// The groups as they lie in memory, or nothing where they do not fit a GroupLayout.
// (polarity_ext/ops/normalize_tangents.py says the same for fake tensors.)
template <class Array>
std::optional<GroupLayout> find_layout(const Array& t, const Array& xhat, const Array& r) {
  if (!is_dense_from(t, 1) || !same_order(t, 1, xhat, 0)) return std::nullopt;
  std::vector<int64_t> order;  // dimensions of xhat, outermost first
  for (int64_t i = 0; i < xhat.dim(); ++i) {
    if (xhat.size(i) > 1) order.push_back(i);
  }
  std::sort(order.begin(), order.end(),
            [&](int64_t i, int64_t j) { return xhat.stride(i) > xhat.stride(j); });
  int64_t sizes[4] = {1, 1, 1, 1};  // kept, reduced, kept, reduced
  size_t slot = 0;
  for (const int64_t i : order) {
    const bool reduced = r.size(i) == 1;
    if (reduced != (slot % 2 == 1)) ++slot;
    if (slot == 4) return std::nullopt;
    sizes[slot] *= xhat.size(i);
  }
  int64_t run = 1;  // r is dense, in the same order
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    if (r.size(*i) > 1 && r.stride(*i) != run) return std::nullopt;
    run *= r.size(*i);
  }
  const auto [outer, rows, inner, columns] = sizes;
  const int64_t stride = t.stride(0);
  if (inner == 1) return GroupLayout{t.size(0), 1, 1, outer, rows * columns, stride};
  return GroupLayout{t.size(0), outer, rows, inner, columns, stride};
}

}  // namespace polarity
