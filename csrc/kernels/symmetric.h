// What the kernels for batches of small symmetric matrices share: how the matrices lie, and the
// packed triangle they work on. Only lower triangles are read.
#pragma once

#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct SymmetricBatch {
  int64_t batch, size;                           // [batch, size, size]
  int64_t stride_batch, stride_row, stride_col;  // in elements, any layout
};

// Where row `row` of a packed lower triangle begins.
POLARITY_HOST_DEVICE int64_t triangle(int64_t row) { return row * (row + 1) / 2; }

}  // namespace polarity
