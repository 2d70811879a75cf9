// A[b] = L[b] L[b]^T, computed in double. info[b] = 0, or j + 1 where the leading minor of order
// j + 1 is the first that is not positive, or not finite: then columns j and later of L[b] are NaN.
// A matrix changes no other.
#pragma once

#include "symmetric.h"

namespace polarity {

constexpr int64_t kLargestCholesky = 512;
constexpr int64_t kLargestShared = 128;  // up to here the packed triangle fits in shared memory

// Doubles that the CUDA kernel works in.
inline int64_t cholesky_workspace(const SymmetricBatch& shape) {
  return shape.size <= kLargestShared ? 0 : shape.batch * triangle(shape.size);
}

namespace cpu {
// l: [batch, size, size], contiguous; zero above the diagonal.
template <typename T>
void cholesky(const T* a, const SymmetricBatch& shape, T* l, int64_t* info);
}  // namespace cpu
namespace cuda {
// workspace: cholesky_workspace(shape) doubles.
template <typename T>
void cholesky(const T* a, const SymmetricBatch& shape, double* workspace, T* l, int64_t* info,
              void* stream);
}  // namespace cuda
}  // namespace polarity
