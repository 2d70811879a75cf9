// out[l, b] = (W t[l, b]) * d[b]: tangents through a linear layer and the derivative behind it.
// CUDA alone: on the CPU the product is the library's, and d the kernel of scale_tangents.
#pragma once

#include <cstdint>

namespace polarity {

// How float products are formed on CUDA.
enum class ProductPrecision : int64_t {
  full = 0,    // fused multiply-adds
  tf32x3 = 1,  // tensor cores, three products of split factors: nearly as accurate
  tf32 = 2,    // tensor cores, factors rounded to 10 bits of mantissa
};
constexpr int64_t kProductPrecisions = 3;

struct LinearShape {
  int64_t probes, batch, in, out;  // W is [out, in] and d [batch, out], dense
  int64_t t_probe, t_batch;        // strides of t, whose last dimension is dense
};

namespace cuda {
template <typename T>
void linear_tangents(const T* t, const T* weight, const T* d, T* out, const LinearShape& shape,
                     ProductPrecision precision, void* stream);
}
}  // namespace polarity
