// The transpose of a matrix, by squares that fit the registers.
#pragma once

#include <cstdint>

#include "cpu_isa.h"
#include "cpu_vector.h"

namespace polarity::cpu {

// target[j][i] = source[i][j]: rows are `source_stride` and `target_stride` apart.
template <Isa isa, typename T>
POLARITY_INLINE void transpose(const T* source, int64_t source_stride, int64_t rows,
                               int64_t columns, T* target, int64_t target_stride) {
  constexpr int64_t kWidth = VectorOf<isa, T>::kWidth;
  for (int64_t j = 0; j < columns; j += kWidth) {
    for (int64_t i = 0; i < rows; i += kWidth) {
      const T* const from = source + i * source_stride + j;
      T* const to = target + j * target_stride + i;
      if (i + kWidth <= rows && j + kWidth <= columns) {
        transpose_square<isa, T>([&](int n) { return from + n * source_stride; }, to,
                                 target_stride);
        continue;
      }
      for (int64_t b = 0; b < kWidth && j + b < columns; ++b) {
        for (int64_t a = 0; a < kWidth && i + a < rows; ++a) {
          to[b * target_stride + a] = from[a * source_stride + b];
        }
      }
    }
  }
}

}  // namespace polarity::cpu
