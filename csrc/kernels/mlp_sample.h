// A few probes of one sample on their way through the layers of a perceptron: what mlp_tangents and
// mlp_gram share on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu_isa.h"
#include "cpu_vector.h"
#include "mlp_panels.h"
#include "mlp_tangents.h"
#include "prefetch.h"

namespace polarity::cpu {

constexpr int64_t kProbes = 64;  // probes that go through the layers together, more or less
constexpr double kDense = 0.85;  // from this part of a layer on, zeros are not worth a gather

// Numbers of packed panels.
template <typename T>
constexpr int64_t panel_room = (1 << 18) / static_cast<int64_t>(sizeof(T));

inline int64_t rounded_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Probes go through the layers in equal parts: no small rest that takes a gather of its own.
inline int64_t parts(int64_t probes) {
  return std::max<int64_t>(1, (probes + kProbes / 2) / kProbes);
}
inline int64_t probes_together(int64_t probes) {
  return (probes + parts(probes) - 1) / parts(probes);
}

// Some units of a layer: all of them, or those whose factor is not zero.
struct Units {
  std::vector<int32_t> index;
  int64_t count = 0;
  bool all = true;

  template <typename T>
  void select(const T* factor, int64_t width) {
    index.resize(static_cast<size_t>(width));
    count = 0;
    for (int64_t i = 0; i < width; ++i) {
      index[count] = static_cast<int32_t>(i);
      count += factor == nullptr || factor[i] != T(0);
    }
    all = static_cast<double>(count) > kDense * static_cast<double>(width);
    if (!all) return;
    for (int64_t i = 0; i < width; ++i) index[i] = static_cast<int32_t>(i);
    count = width;
  }
};

// What one thread needs: probes as rows, units as columns.
template <typename T>
struct MlpWorkspace {
  int64_t stride;                 // of the rows of a state
  std::unique_ptr<T[]> state[2];  // probes before and behind a layer
  std::unique_ptr<T[]> panels;    // of a matrix, [inputs][columns] each, gathered
  std::unique_ptr<T[]> factor;    // of the units in use
  std::unique_ptr<T[]> tile;      // a result that does not fill its place
  Units units[2];

  MlpWorkspace(const MlpChain<T>& chain, int64_t rows, int64_t columns) {
    const int64_t widest = *std::max_element(chain.width, chain.width + chain.layers + 1);
    stride = rounded_up(widest, columns);
    const int64_t probes = rounded_up(probes_together(chain.probes), rows);
    for (auto& values : state) values.reset(new T[probes * stride]());
    int64_t room = 0;
    for (int i = 0; i < chain.layers; ++i) {
      const int64_t matrix = chain.width[i] * rounded_up(chain.width[i + 1], columns);
      room = std::max(room, std::min(matrix, std::max(panel_room<T>, chain.width[i] * columns)));
    }
    panels.reset(new T[room]);
    factor.reset(new T[stride]());
    tile.reset(new T[rows * columns]());
  }
};

// panels[j / columns][k][j % columns] = matrix[inputs[k], outputs[first + j]] for j < count, and
// zero beyond: rows are read from end to end.
template <Isa isa, typename T>
POLARITY_INLINE void pack(const T* matrix, int64_t width, const Units& inputs, const Units& outputs,
                          int64_t first, int64_t count, T* panels) {
  constexpr int64_t kWide = kColumns<isa, T>;
  for (int64_t k = 0; k < inputs.count; ++k) {
    const T* row = matrix + inputs.index[k] * width;
    for (int64_t start = 0; start < count; start += kWide) {
      T* target = panels + start * inputs.count + k * kWide;
      const int64_t used = std::min(kWide, count - start);
      if (!outputs.all) {
        const int32_t* chosen = outputs.index.data() + first + start;
#pragma GCC unroll 8
        for (int64_t j = 0; j < used; ++j) target[j] = row[chosen[j]];
      } else if (used == kWide) {
        std::copy_n(row + first + start, kWide, target);
      } else {
        std::copy_n(row + first + start, used, target);
      }
      for (int64_t j = used; j < kWide; ++j) target[j] = T(0);
    }
  }
}

// factors[j] = factor[outputs[j]], or one.
template <typename T>
POLARITY_INLINE void pack_factor(const T* factor, const Units& units, T* factors) {
  for (int64_t j = 0; j < units.count; ++j) factors[j] = factor ? factor[units.index[j]] : T(1);
}

// Where probes lie: numbers from one to the next, and from one unit to the next.
struct Strides {
  int64_t row, unit;
};

// state[r][k] = source[units[k]][r] * scale[k]: of probes side by side.
template <Isa isa, typename T>
POLARITY_INLINE void gather_columns(const T* source, int64_t source_stride, int64_t rows,
                                    const T* scale, const Units& units, T* state, int64_t stride) {
  using V = Vector<isa, T>;
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  const auto column = [&](int64_t k) { return source + units.index[k] * source_stride; };
  for (int64_t k = 0; k < units.count; k += kWidth) {
    const int64_t columns = std::min(kWidth, units.count - k);
    for (int64_t r = 0; r < rows; r += kWidth) {
      T* to = state + r * stride + k;
      if (columns == kWidth && r + kWidth <= rows) {
        transpose_square<isa, T>([&](int i) { return column(k + i) + r; }, to, stride);
        const V scales = *reinterpret_cast<const V*>(scale + k);
        for (int i = 0; i < kWidth; ++i) *reinterpret_cast<V*>(to + i * stride) *= scales;
        continue;
      }
      for (int64_t i = 0; i < std::min(kWidth, rows - r); ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          to[i * stride + j] = column(k + j)[r + i] * scale[k + j];
        }
      }
    }
  }
}

// state[r][k] = source[r][units[k]] * factor[units[k]]: what enters the first gathered layer.
template <Isa isa, typename T>
POLARITY_INLINE void gather(const T* source, Strides strides, int64_t rows, const T* factor,
                            const Units& units, MlpWorkspace<T>& work, T* state) {
  pack_factor(factor, units, work.factor.get());
  const T* scale = work.factor.get();
  const int32_t* index = units.index.data();
  if (strides.row == 1 && strides.unit != 1) {
    return gather_columns<isa>(source, strides.unit, rows, scale, units, state, work.stride);
  }
  const int64_t reach = units.count > 0 ? index[units.count - 1] + 1 : 0;
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = source + r * strides.row;
    T* to = state + r * work.stride;
    // Probes lie far apart: the next one is asked for.
    if (strides.unit == 1 && r + 1 < rows) prefetch(from + strides.row, reach);
    if (units.all && strides.unit == 1) {
      for (int64_t k = 0; k < units.count; ++k) to[k] = from[k] * scale[k];
    } else {
      for (int64_t k = 0; k < units.count; ++k) to[k] = from[index[k] * strides.unit] * scale[k];
    }
  }
}

// One layer of one sample: state (rows of units `inputs`) to c, a column for each of the units
// `outputs`. Where `is_result` is on, c has no room for more rows or columns.
template <Isa isa, typename T>
POLARITY_INLINE void layer(const T* matrix, int64_t width, const T* factor, const T* state,
                           int64_t rows, const Units& inputs, const Units& outputs,
                           MlpWorkspace<T>& work, T* c, int64_t c_stride, bool is_result) {
  constexpr int64_t kWide = kColumns<isa, T>;
  pack_factor(factor, outputs, work.factor.get());
  // Rows in tiles of equal height. As many panels as stay in the second-level cache are packed
  // together, but those that lie in the matrix as they are by the first rows they are multiplied
  // with.
  const int64_t tiles = (rows + PanelMicro<isa>::kRows - 1) / PanelMicro<isa>::kRows;
  const int64_t height = std::max<int64_t>(PanelMicro<isa>::kRows / 2, (rows + tiles - 1) / tiles);
  const int64_t fitting = panel_room<T> / (kWide * std::max<int64_t>(1, inputs.count));
  const int64_t packed = outputs.all ? kWide : std::max<int64_t>(1, fitting) * kWide;
  for (int64_t first = 0; first < outputs.count; first += kWide) {
    const int64_t count = std::min(kWide, outputs.count - first);
    const bool lies = outputs.all && count == kWide;
    const int64_t start = first % packed;
    if (start == 0 && !lies) {
      pack<isa>(matrix, width, inputs, outputs, first, std::min(packed, outputs.count - first),
                work.panels.get());
    }
    T* const panel = work.panels.get() + start * inputs.count;
    const T* const scale = work.factor.get() + first;
    for (int64_t row = 0; row < rows; row += height) {
      const T* const a = state + row * work.stride;
      const bool direct = !is_result || (count % kGrain<isa, T> == 0 && row + height <= rows);
      T* const to = direct ? c + row * c_stride + first : work.tile.get();
      const int64_t to_stride = direct ? c_stride : kWide;
      for_rows<isa>(height, [&](auto constant) __attribute__((always_inline)) {
        constexpr int kRows = decltype(constant)::value;
        if (lies && row == 0) {
          const Unpacked<isa, T> columns{matrix + first, width, inputs.index.data(), panel};
          multiply_micro<isa, kRows, PanelMicro<isa>::kVectors, 0>(
              a, work.stride, columns, inputs.count, scale, to, to_stride);
        } else {
          multiply_rows<isa, kRows>(count, a, work.stride, Packed<isa, T>{panel}, inputs.count,
                                    scale, to, to_stride);
        }
      });
      if (direct) continue;
      for (int64_t r = 0; r < std::min(height, rows - row); ++r) {
        std::copy_n(to + r * kWide, count, c + (row + r) * c_stride + first);
      }
    }
  }
}

// The factors of sample b behind layer i (before the first one where i is 0), or null.
template <typename T>
POLARITY_INLINE const T* factor_of(const MlpChain<T>& chain, int i, int64_t b) {
  return chain.factor[i] ? chain.factor[i] + b * chain.width[i] : nullptr;
}

// Layer i of sample b, from state[from] and its units to the other state and its units.
template <Isa isa, typename T>
POLARITY_INLINE void step(const MlpChain<T>& chain, int i, int64_t b, int64_t rows, int from,
                          MlpWorkspace<T>& work) {
  const T* const factor = factor_of(chain, i + 1, b);
  Units& outputs = work.units[1 - from];
  outputs.select(factor, chain.width[i + 1]);
  layer<isa>(chain.matrix[i], chain.width[i + 1], factor, work.state[from].get(), rows,
             work.units[from], outputs, work, work.state[1 - from].get(), work.stride, false);
}

// Probes first .. first + rows of sample b through the first `layers` layers; returns which state
// and units hold them then. `shared` is M_1^T v where all samples have the same v, else null.
template <Isa isa, typename T>
POLARITY_INLINE int push(const MlpChain<T>& chain, const T* shared, int64_t b, int64_t first,
                         int64_t rows, int layers, MlpWorkspace<T>& work) {
  const int start = shared ? 1 : 0;
  const T* const source = shared ? shared + first * chain.width[1]
                                 : chain.v + first * chain.v_probe + b * chain.v_batch;
  const Strides strides =
      shared ? Strides{chain.width[1], 1} : Strides{chain.v_probe, chain.v_unit};
  const T* const factor = factor_of(chain, start, b);
  work.units[0].select(factor, chain.width[start]);
  gather<isa>(source, strides, rows, factor, work.units[0], work, work.state[0].get());
  int from = 0;
  for (int i = start; i < layers; ++i, from = 1 - from) step<isa>(chain, i, b, rows, from, work);
  return from;
}

}  // namespace polarity::cpu
