#pragma once

#include <cfloat>

#include "../device/portability.cuh"
#include "cholesky.h"

namespace polarity {

constexpr int kCholeskyBlock = 256;
constexpr int kCholeskyWarps = kCholeskyBlock / 32;

// One block for each matrix, a warp for each row of it: column after column leaves the triangle,
// which lies packed in shared memory where it fits, otherwise in global memory.
template <typename T>
POLARITY_GLOBAL void cholesky_kernel(const T* a, SymmetricBatch shape, double* workspace, T* l,
                                     int64_t* info) {
  DYN_SHARED(double, column);
  const int64_t size = shape.size, b = blockIdx.x;
  double* packed = size <= kLargestShared ? column + size : workspace + b * triangle(size);
  const int64_t warp = threadIdx.x / 32, lane = device::lane();
  const T* matrix = a + b * shape.stride_batch;
  for (int64_t i = warp; i < size; i += kCholeskyWarps) {
    for (int64_t j = lane; j <= i; j += 32) {
      packed[triangle(i) + j] =
          static_cast<double>(matrix[i * shape.stride_row + j * shape.stride_col]);
    }
  }
  device::sync_block();

  int64_t good = 0;  // columns that are done
  for (; good < size; ++good) {
    const double pivot = packed[triangle(good) + good];
    if (!(pivot > 0.0 && pivot <= DBL_MAX)) break;  // every thread sees the same
    const double root = sqrt(pivot), inverse = 1.0 / root;
    for (int64_t i = good + threadIdx.x; i < size; i += kCholeskyBlock) {
      column[i] = i == good ? root : packed[triangle(i) + good] * inverse;
    }
    device::sync_block();
    for (int64_t i = good + warp; i < size; i += kCholeskyWarps) {
      const double mine = column[i];
      for (int64_t j = good + lane; j <= i; j += 32) {
        double& x = packed[triangle(i) + j];
        x = j == good ? mine : x - mine * column[j];
      }
    }
    device::sync_block();
  }

  if (threadIdx.x == 0) info[b] = good < size ? good + 1 : 0;
  T* out = l + b * size * size;
  for (int64_t i = warp; i < size; i += kCholeskyWarps) {
    for (int64_t j = lane; j < size; j += 32) {
      const double x = j > i ? 0.0 : j < good ? packed[triangle(i) + j] : nan("");
      out[i * size + j] = static_cast<T>(x);
    }
  }
}

}  // namespace polarity
