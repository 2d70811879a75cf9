// out[b] = Omega Y[b] with double products and sums, Omega [rows, D] standard normal. Omega is
// never stored: a block of it is made where it is multiplied. Omega[r, d] is number offset + r D +
// d of stream `seed`, bit for bit what `gaussian` gives.
#pragma once

#include <cstdint>

#include "gram.h"

namespace polarity {

struct GaussianRows {
  uint64_t seed, offset;
  int64_t count;  // rows of Omega
};

namespace cpu {
template <typename T>
void gaussian_product(const T* y, const GramShape& shape, const GaussianRows& rows, double* out);
}
namespace cuda {
template <typename T>
void gaussian_product(const T* y, const GramShape& shape, const GaussianRows& rows, double* out,
                      void* stream);
}

}  // namespace polarity
