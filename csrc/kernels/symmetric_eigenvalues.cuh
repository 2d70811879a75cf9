#pragma once

#include "../device/portability.cuh"
#include "../device/reduce.cuh"
#include "../device/scale.h"
#include "symmetric_eigenvalues.h"

namespace polarity {

// Doubles of shared memory: the packed triangle, and w, d and e2 beside it.
POLARITY_HOST_DEVICE int64_t symmetric_shared(int64_t size) { return triangle(size) + 3 * size; }

// Reads the lower triangle of one matrix, scaled to a largest element near one; returns what takes
// the eigenvalues back, NaN where an element is not finite.
template <int kThreads, typename T>
POLARITY_DEVICE double load_symmetric(const T* a, const SymmetricBatch& shape, double* packed) {
  const int thread = static_cast<int>(threadIdx.x);
  // Neighbouring threads read neighbouring addresses, whichever dimension that is.
  const bool along_rows = shape.stride_col <= shape.stride_row;
  double largest = 0.0, poison = 0.0;
  for (int64_t outer = 0; outer < shape.size; ++outer) {
    const int64_t row = along_rows ? outer : thread;
    const int64_t column = along_rows ? thread : outer;
    if (row < shape.size && column <= row) {
      const double x = static_cast<double>(a[row * shape.stride_row + column * shape.stride_col]);
      packed[triangle(row) + column] = x;
      largest = fabs(x) > largest ? fabs(x) : largest;
      poison += x * 0.0;
    }
  }
  poison = device::block_sum<kThreads>(poison);
  const Scale scale = scale_to_one(device::block_max<kThreads>(largest));
  for (int64_t i = thread; i < triangle(shape.size); i += kThreads) {
    packed[i] = poison == 0.0 ? packed[i] * scale.factor : 0.0;
  }
  device::sync_block();
  return scale.inverse + poison;
}

// Householder reflections from the last row up. Thread k owns row k of the matrix and element k of
// every vector. Rows of a packed triangle begin in different banks of shared memory (the triangular
// numbers below a power of two differ modulo it), so neither way through it has conflicts.
template <int kThreads>
POLARITY_DEVICE void tridiagonalise(double* packed, int64_t size, double* w, double* d,
                                    double* e2) {
  const int64_t k = threadIdx.x;
  for (int64_t i = size - 1; i > 1; --i) {
    double* v = packed + triangle(i);
    const double mine = k < i ? v[k] : 0.0;
    const double corner = v[i - 1];
    const double square = device::block_sum<kThreads>(mine * mine);
    const double norm = sqrt(square);
    // The row becomes v of the reflection 1 - v v^T / h that leaves it one element.
    const double element = k == i - 1 ? corner + (corner < 0.0 ? -norm : norm) : mine;
    const double inverse = square > kTinySquare ? 1.0 / (square + fabs(corner) * norm) : 0.0;
    if (k == i - 1) {
      e2[k] = square;
      v[k] = element;
    }
    device::sync_block();
    double y = 0.0;
    if (k < i) {
      for (int64_t c = 0; c < i; ++c) {
        y += packed[c <= k ? triangle(k) + c : triangle(c) + k] * v[c];
      }
    }
    const double dot = device::block_sum<kThreads>(element * y);
    // A - v w^T - w v^T with w = y / h - v (v . y) / (2 h^2)
    const double w_mine = inverse * (y - 0.5 * dot * inverse * element);
    if (k < i) w[k] = w_mine;
    device::sync_block();
    if (k < i) {
      for (int64_t c = 0; c <= k; ++c) {
        packed[triangle(k) + c] -= element * w[c] + w_mine * v[c];
      }
    }
    device::sync_block();
  }
  if (k < size) d[k] = packed[triangle(k) + k];
  if (k == 0) {
    e2[size - 1] = 0.0;
    if (size > 1) e2[0] = packed[1] * packed[1];
  }
  device::sync_block();
}

// Eigenvalues of the tridiagonal matrix that are less than x: the negative pivots of its L D L^T.
POLARITY_DEVICE int64_t eigenvalues_below(const double* d, const double* e2, int64_t size,
                                          double x) {
  int64_t below = 0;
  double pivot = 1.0, coupling = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    pivot = (d[i] - x) - coupling / pivot;
    if (fabs(pivot) < kTinySquare) pivot = -kTinySquare;
    below += pivot < 0.0;
    coupling = e2[i];
  }
  return below;
}

// One block for each matrix; kThreads >= size. Thread k bisects for eigenvalue k.
template <int kThreads, typename T>
POLARITY_GLOBAL void symmetric_eigenvalues_kernel(const T* a, SymmetricBatch shape, int64_t count,
                                                  T* out) {
  DYN_SHARED(double, packed);
  const int64_t size = shape.size;
  double* w = packed + triangle(size);
  double* d = w + size;
  double* e2 = d + size;
  const int64_t k = threadIdx.x;

  const double back = load_symmetric<kThreads>(a + blockIdx.x * shape.stride_batch, shape, packed);
  tridiagonalise<kThreads>(packed, size, w, d, e2);

  // Gershgorin: all eigenvalues are within it.
  double radius = 0.0;
  if (k < size) radius = fabs(d[k]) + sqrt(e2[k]) + (k > 0 ? sqrt(e2[k - 1]) : 0.0);
  const double bound = device::block_max<kThreads>(radius);
  if (k >= count) return;
  double low = -bound, high = bound;
  for (int step = 0; step < 56; ++step) {  // to bound * 2^-55
    const double middle = 0.5 * (low + high);
    if (size - eigenvalues_below(d, e2, size, middle) > k) {
      low = middle;
    } else {
      high = middle;
    }
  }
  out[static_cast<int64_t>(blockIdx.x) * count + k] = static_cast<T>(0.5 * (low + high) * back);
}

}  // namespace polarity
