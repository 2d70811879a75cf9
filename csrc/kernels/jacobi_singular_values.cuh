#pragma once

#include "../device/portability.cuh"
#include "../device/reduce.cuh"
#include "../device/scale.h"
#include "jacobi_singular_values.h"

namespace polarity {

// Reads one matrix, scaled to a largest element near one, columns together, with the squares of
// their norms; returns what takes the values back, NaN where an element is not finite.
template <int kThreads, typename T>
POLARITY_DEVICE double load_columns(const T* a, const TallBatch& shape, double* columns,
                                    double* square) {
  // Neighbouring threads read neighbouring addresses, whichever dimension that is.
  const bool along_rows = shape.stride_col <= shape.stride_row;
  const int64_t count = shape.rows * shape.columns;
  double largest = 0.0, poison = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) {
    const int64_t row = along_rows ? i / shape.columns : i % shape.rows;
    const int64_t column = along_rows ? i % shape.columns : i / shape.rows;
    const double x = static_cast<double>(a[row * shape.stride_row + column * shape.stride_col]);
    columns[column * shape.rows + row] = x;
    largest = fabs(x) > largest ? fabs(x) : largest;
    poison += x * 0.0;
  }
  poison = device::block_sum<kThreads>(poison);
  const Scale scale = scale_to_one(device::block_max<kThreads>(largest));
  for (int64_t column = threadIdx.x / 32; column < shape.columns; column += kThreads / 32) {
    double* x = columns + column * shape.rows;
    double sum = 0.0;
    for (int64_t i = device::lane(); i < shape.rows; i += 32) {
      x[i] = poison == 0.0 ? x[i] * scale.factor : 0.0;
      sum += x[i] * x[i];
    }
    sum = device::warp_sum(sum);
    if (device::lane() == 0) square[column] = sum;
  }
  device::sync_block();
  return scale.inverse + poison;
}

// Makes two columns orthogonal, by one warp. Says whether they were not.
POLARITY_DEVICE bool rotate(double* x, double* y, double* x_square, double* y_square, int64_t rows,
                            double tolerance) {
  const double xx = *x_square, yy = *y_square;
  double dot = 0.0;
  for (int64_t i = device::lane(); i < rows; i += 32) dot += x[i] * y[i];
  dot = device::warp_sum(dot);
  const bool turn =
      xx > kTinySquare && yy > kTinySquare && fabs(dot) > tolerance * (sqrt(xx) * sqrt(yy));
  if (!turn) return false;  // the whole warp
  const double zeta = (yy - xx) / (2.0 * dot);
  const double size = 1.0 / (fabs(zeta) + sqrt(1.0 + zeta * zeta));
  const double tangent = zeta < 0.0 ? -size : size;
  const double cosine = 1.0 / sqrt(1.0 + tangent * tangent), sine = cosine * tangent;
  // Squares are summed anew: updating them would lose the digits of a column that becomes small.
  double x_sum = 0.0, y_sum = 0.0;
  for (int64_t i = device::lane(); i < rows; i += 32) {
    const double u = x[i], v = y[i];
    x[i] = cosine * u - sine * v;
    y[i] = sine * u + cosine * v;
    x_sum += x[i] * x[i];
    y_sum += y[i] * y[i];
  }
  x_sum = device::warp_sum(x_sum);
  y_sum = device::warp_sum(y_sum);
  if (device::lane() == 0) {
    *x_square = x_sum;
    *y_square = y_sum;
  }
  return true;
}

// One block for each matrix, a warp for each pair of columns. A sweep is a tournament: all columns
// but the last stand in a circle and are paired across it, round after round one place on; the last
// one (nobody, where their number is odd) meets who is left over.
template <int kThreads, typename T>
POLARITY_GLOBAL void jacobi_singular_values_kernel(const T* a, TallBatch shape, int64_t max_sweeps,
                                                   double tolerance, double* workspace, T* values,
                                                   int64_t* info) {
  DYN_SHARED(double, square);
  const int64_t size = shape.columns, rows = shape.rows, b = blockIdx.x;
  double* columns =
      jacobi_doubles(shape) <= kJacobiShared ? square + size : workspace + b * rows * size;
  const int64_t warp = threadIdx.x / 32;
  const double back = load_columns<kThreads>(a + b * shape.stride_batch, shape, columns, square);

  const int64_t circle = (size - 1) | 1;  // one less than the players
  int64_t rotated = 0;
  for (int64_t sweep = 0; sweep < max_sweeps; ++sweep) {
    int64_t mine = 0;
    for (int64_t round = 0; round < circle; ++round) {
      for (int64_t pair = warp; 2 * pair <= circle; pair += kThreads / 32) {
        const int64_t p = (round + pair) % circle;
        const int64_t q = pair == 0 ? circle : (round + circle - pair) % circle;
        if (q == size) continue;
        mine +=
            rotate(columns + p * rows, columns + q * rows, square + p, square + q, rows, tolerance);
      }
      device::sync_block();
    }
    rotated = device::block_sum<kThreads>(device::lane() == 0 ? mine : int64_t{0});
    if (rotated == 0) break;
  }

  const bool finite = back == back;
  if (threadIdx.x == 0) info[b] = finite ? rotated : -1;
  for (int64_t i = threadIdx.x; i < size; i += kThreads) {
    const double value = square[i];
    int64_t rank = 0;
    for (int64_t j = 0; j < size; ++j) {
      rank += square[j] > value || (square[j] == value && j < i);
    }
    values[b * size + rank] = static_cast<T>(rotated == 0 ? sqrt(value) * back : nan(""));
  }
}

}  // namespace polarity
