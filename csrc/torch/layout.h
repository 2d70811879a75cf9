// How an array lies in memory: of anything with dim(), size(i) and stride(i), torch's tensors and
// DLPack's arrays alike. (polarity_ext/ops/layout.py says the same for fake tensors.)
#pragma once

#include <cstdint>

namespace polarity {

// Dimensions first.. fill one run of memory, in whatever order of dimensions.
template <class Array>
bool is_dense_from(const Array& array, int64_t first) {
  int64_t count = 1;
  for (int64_t i = first; i < array.dim(); ++i) count *= array.size(i);
  int64_t run = 1;  // of the dimensions found so far; the next one has just this stride
  for (bool found = true; found && run < count;) {
    found = false;
    for (int64_t i = first; i < array.dim(); ++i) {
      if (array.size(i) > 1 && array.stride(i) == run) {
        run *= array.size(i);
        found = true;
      }
    }
  }
  return count == 0 || run == count;
}

// The same, in row-major order.
template <class Array>
bool is_contiguous_from(const Array& array, int64_t first) {
  int64_t run = 1;
  for (int64_t i = array.dim() - 1; i >= first; --i) {
    if (array.size(i) > 1 && array.stride(i) != run) return false;
    run *= array.size(i);
  }
  return true;
}

// Dimensions a_first.. of a lie in memory as dimensions b_first.. of b, which have the same sizes.
template <class A, class B>
bool same_order(const A& a, int64_t a_first, const B& b, int64_t b_first) {
  for (int64_t i = 0; i < a.dim() - a_first; ++i) {
    if (a.size(a_first + i) > 1 && a.stride(a_first + i) != b.stride(b_first + i)) return false;
  }
  return true;
}

}  // namespace polarity
