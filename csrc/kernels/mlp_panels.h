// Rows of numbers times panels of a few columns of a matrix, which is what mlp_tangents is made of
// on the CPU: probes are rows, units are columns.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu_isa.h"
#include "cpu_vector.h"

namespace polarity::cpu {

// Accumulators of the micro-kernel: rows (probes) by vectors (units), as many as registers hold.
template <Isa isa>
struct PanelMicro {
  static constexpr int kRows = isa == Isa::avx512 ? 8 : 4;
  static constexpr int kVectors = isa == Isa::baseline ? 2 : 3;
};

template <Isa isa, typename T>
constexpr int64_t kColumns = PanelMicro<isa>::kVectors * VectorOf<isa, T>::kWidth;

// The last columns of a panel take half a vector where that is enough: on processors that work on
// a vector of AVX-512 in two steps it takes half the time.
template <Isa isa>
constexpr bool kHasHalves = isa == Isa::avx512;
template <Isa isa, typename T>
using Half = Vector<kHasHalves<isa> ? Isa::avx2 : isa, T>;

// Columns that are multiplied at least.
template <Isa isa, typename T>
constexpr int64_t kGrain = VectorOf<isa, T>::kWidth / (kHasHalves<isa> ? 2 : 1);

// c = (a panel) * factor for `rows` rows of a and `vectors` vectors of columns, and half a vector
// where `half` is 1. `Source` says where the columns of an input lie.
template <Isa isa, int rows, int vectors, int half, class Source, typename T>
POLARITY_INLINE void multiply_micro(const T* a, int64_t a_stride, const Source& source,
                                    int64_t depth, const T* factor, T* c, int64_t c_stride) {
  using V = Vector<isa, T>;
  using H = Half<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  V sum[rows][vectors + half] = {};  // the last one stays unused where it is of half a vector
  H rest[rows] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const T* const from = source.at(k);
    V column[vectors + half];
    for (int v = 0; v < vectors; ++v) {
      column[v] = *reinterpret_cast<const V*>(from + v * kWidth);
      source.keep(k, v * kWidth, column[v]);
    }
    for (int r = 0; r < rows; ++r) {
      for (int v = 0; v < vectors; ++v) sum[r][v] += a[r * a_stride + k] * column[v];
    }
    if constexpr (half == 1) {
      const H last = *reinterpret_cast<const H*>(from + vectors * kWidth);
      for (int r = 0; r < rows; ++r) rest[r] += a[r * a_stride + k] * last;
    }
  }
  for (int v = 0; v < vectors; ++v) {
    const V scale = *reinterpret_cast<const V*>(factor + v * kWidth);
    for (int r = 0; r < rows; ++r) {
      *reinterpret_cast<V*>(c + r * c_stride + v * kWidth) = sum[r][v] * scale;
    }
  }
  if constexpr (half == 1) {
    const H scale = *reinterpret_cast<const H*>(factor + vectors * kWidth);
    for (int r = 0; r < rows; ++r) {
      *reinterpret_cast<H*>(c + r * c_stride + vectors * kWidth) = rest[r] * scale;
    }
  }
}

// The columns of a packed panel.
template <Isa isa, typename T>
struct Packed {
  const T* panel;

  POLARITY_INLINE const T* at(int64_t k) const { return panel + k * kColumns<isa, T>; }
  template <typename V>
  POLARITY_INLINE void keep(int64_t /*k*/, int64_t /*column*/, const V& /*numbers*/) const {}
};

// Neighbouring columns of the matrix itself, which are packed on the way.
template <Isa isa, typename T>
struct Unpacked {
  const T* matrix;  // at the first of the columns
  int64_t width;
  const int32_t* inputs;
  T* panel;

  POLARITY_INLINE const T* at(int64_t k) const { return matrix + inputs[k] * width; }
  template <typename V>
  POLARITY_INLINE void keep(int64_t k, int64_t column, const V& numbers) const {
    *reinterpret_cast<V*>(panel + k * kColumns<isa, T> + column) = numbers;
  }
};

// The same for `columns` columns, at most kColumns, rounded up to kGrain.
template <Isa isa, int rows, typename T>
POLARITY_INLINE void multiply_rows(int64_t columns, const T* a, int64_t a_stride,
                                   const Packed<isa, T>& panel, int64_t depth, const T* factor,
                                   T* c, int64_t c_stride) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  if constexpr (kHasHalves<isa>) {
    const int64_t whole = columns / kWidth, rest = columns % kWidth;
    if (rest > 0 && rest <= kGrain<isa, T>) {
      if (whole == 2)
        return multiply_micro<isa, rows, 2, 1>(a, a_stride, panel, depth, factor, c, c_stride);
      if (whole == 1)
        return multiply_micro<isa, rows, 1, 1>(a, a_stride, panel, depth, factor, c, c_stride);
      return multiply_micro<isa, rows, 0, 1>(a, a_stride, panel, depth, factor, c, c_stride);
    }
  }
  const int64_t vectors = (columns + kWidth - 1) / kWidth;
  if constexpr (PanelMicro<isa>::kVectors == 3) {
    if (vectors == 3) {
      return multiply_micro<isa, rows, 3, 0>(a, a_stride, panel, depth, factor, c, c_stride);
    }
  }
  if (vectors == 2)
    return multiply_micro<isa, rows, 2, 0>(a, a_stride, panel, depth, factor, c, c_stride);
  multiply_micro<isa, rows, 1, 0>(a, a_stride, panel, depth, factor, c, c_stride);
}

// Calls body(std::integral_constant<int, rows>) for a number of rows between half of kRows and
// kRows.
template <Isa isa, int rows = PanelMicro<isa>::kRows, class Body>
POLARITY_INLINE void for_rows(int64_t count, const Body& body) {
  if constexpr (rows > PanelMicro<isa>::kRows / 2) {
    if (count < rows) return for_rows<isa, rows - 1>(count, body);
  }
  body(std::integral_constant<int, rows>{});
}

}  // namespace polarity::cpu
