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
    columns[column * jacobi_pitch(shape.rows) + row] = x;
    largest = fabs(x) > largest ? fabs(x) : largest;
    poison += x * 0.0;
  }
  poison = device::block_sum<kThreads>(poison);
  const Scale scale = scale_to_one(device::block_max<kThreads>(largest));
  for (int64_t column = threadIdx.x / 32; column < shape.columns; column += kThreads / 32) {
    double* x = columns + column * jacobi_pitch(shape.rows);
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

// Makes two columns orthogonal, by kLanes lanes of a warp; the others have columns of their own, or
// none (`rows` is zero). Says whether they were not. A warp goes through it in step.
template <int kLanes>
POLARITY_DEVICE bool rotate(double* x, double* y, double* x_square, double* y_square, int64_t rows,
                            double tolerance) {
  constexpr int kTogether = 4;  // numbers that are read before the first of them is written
  const int64_t lane = threadIdx.x % kLanes;
  const auto sum = [](double value) {
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      value += device::shuffle_xor(value, distance);
    }
    return value;
  };
  const double xx = rows > 0 ? *x_square : 0.0, yy = rows > 0 ? *y_square : 0.0;
  double dot = 0.0;
  for (int64_t i = lane; i < rows; i += kLanes) dot += x[i] * y[i];
  dot = sum(dot);
  // Squares are at least 2^-900; products of these two are numbers, too.
  constexpr double kMiddle = 0x1p450;
  const double limit = tolerance * tolerance * ((xx * kMiddle) * (yy * kMiddle));
  const bool turn =
      xx > kTinySquare && yy > kTinySquare && (dot * kMiddle) * (dot * kMiddle) > limit;
  if (device::ballot(turn) == 0) return false;
  // With the larger of both near one neither square overflows, and what underflows is nothing.
  const double across = yy - xx, along = 2.0 * dot;
  const double scale = scale_to_one(fmax(fabs(across), fabs(along))).factor;
  const double opposite = scale * along, adjacent = scale * fabs(across);
  const double size = 1.0 / (adjacent + sqrt(adjacent * adjacent + opposite * opposite));
  const double tangent = across < 0.0 ? -opposite * size : opposite * size;
  const double cosine = device::inverse_root(1.0 + tangent * tangent), sine = cosine * tangent;
  // Squares are summed anew: updating them would lose the digits of a column that becomes small.
  double x_sum = 0.0, y_sum = 0.0;
  for (int64_t begin = lane; turn && begin < rows; begin += kTogether * kLanes) {
    double u[kTogether], v[kTogether];
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      const int64_t i = begin + k * kLanes;
      u[k] = i < rows ? x[i] : 0.0;
      v[k] = i < rows ? y[i] : 0.0;
    }
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      const int64_t i = begin + k * kLanes;
      const double p = cosine * u[k] - sine * v[k], q = sine * u[k] + cosine * v[k];
      if (i < rows) {
        x[i] = p;
        y[i] = q;
      }
      x_sum += p * p;
      y_sum += q * q;
    }
  }
  x_sum = sum(x_sum);
  y_sum = sum(y_sum);
  if (turn && lane == 0) {
    *x_square = x_sum;
    *y_square = y_sum;
  }
  return turn;
}

// One block for each matrix, kLanes lanes for each pair of columns, so that all pairs of a round
// turn at once: its time is that of the roots and quotients of one rotation. A sweep is a
// tournament: all columns but the last stand in a circle and are paired across it, round after
// round one place on; the last one (nobody, where their number is odd) meets who is left over.
template <int kThreads, int kLanes, typename T>
POLARITY_GLOBAL void jacobi_singular_values_kernel(const T* a, TallBatch shape, int64_t max_sweeps,
                                                   double tolerance, double* workspace, T* values,
                                                   int64_t* info) {
  DYN_SHARED(double, square);
  const int64_t size = shape.columns, pitch = jacobi_pitch(shape.rows), b = blockIdx.x;
  double* columns =
      jacobi_doubles(shape) <= kJacobiShared ? square + size : workspace + b * pitch * size;
  const double back = load_columns<kThreads>(a + b * shape.stride_batch, shape, columns, square);

  constexpr int64_t kPairs = 32 / kLanes;  // of a warp
  const int64_t warp = threadIdx.x / 32;
  const int64_t circle = (size - 1) | 1;  // one less than the players
  int64_t rotated = 0;
  for (int64_t sweep = 0; sweep < max_sweeps; ++sweep) {
    int64_t mine = 0;
    for (int64_t round = 0; round < circle; ++round) {
      for (int64_t first = warp * kPairs; 2 * first <= circle; first += kThreads / kLanes) {
        const int64_t pair = first + device::lane() / kLanes;
        const int64_t ahead = round + pair, behind = round - pair;
        const int64_t p = ahead < circle ? ahead : ahead - circle;
        const int64_t q = pair == 0 ? circle : behind < 0 ? behind + circle : behind;
        const bool both = 2 * pair <= circle && q < size;
        mine += rotate<kLanes>(columns + p * pitch, columns + q * pitch, square + p, square + q,
                               both ? shape.rows : 0, tolerance);
      }
      device::sync_block();
    }
    rotated = device::block_sum<kThreads>(threadIdx.x % kLanes == 0 ? mine : int64_t{0});
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
