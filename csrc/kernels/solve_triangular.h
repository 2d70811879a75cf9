// out[b] R[b] = Y[b], R upper-triangular: every row of Y times the inverse of R, by substitution in
// double. Only the upper triangle of R is read. A zero on its diagonal gives what division by zero
// does. A row of Y changes no other.
#pragma once

#include <cstdint>

namespace polarity {

// Columns: a tile of rows of Y must fit in shared memory.
constexpr int64_t kLargestTriangular = 384;

struct TriangularShape {
  int64_t batch, rows, columns;  // Y [batch, rows, columns], R [batch, columns, columns]
  int64_t stride_batch, stride_row, stride_col;  // of Y, in elements, any layout
  int64_t r_batch, r_row, r_col;                 // of R
};

namespace cpu {
// out: [batch, rows, columns], contiguous.
template <typename T>
void solve_triangular(const T* y, const double* r, const TriangularShape& shape, double* out);
}  // namespace cpu
namespace cuda {
template <typename T>
void solve_triangular(const T* y, const double* r, const TriangularShape& shape, double* out,
                      void* stream);
}  // namespace cuda

}  // namespace polarity
