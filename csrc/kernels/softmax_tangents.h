// out[l, row] = y[row] (t[l, row] - y[row] . t[l, row]): tangents of a softmax whose value is y. As
// a map of t it is its own transpose.
#pragma once

#include <cstdint>

namespace polarity {

// Rows are dense and follow one another; the probes of t have a stride of their own, in elements.
struct RowLayout {
  int64_t probes, rows, size;
  int64_t t_probe;
};

namespace cpu {
template <typename T>
void softmax_tangents(const T* t, const T* y, T* out, const RowLayout& layout);
}
namespace cuda {
template <typename T>
void softmax_tangents(const T* t, const T* y, T* out, const RowLayout& layout, void* stream);
}
}  // namespace polarity
