#include "../device/launch.cuh"
#include "floored_log_sum.cuh"
#include "floored_log_sum.h"

namespace polarity::cuda {

void floored_log_sum(const double* sigma, const double* floor, const double* eta,
                     const double* delta, const LogSumShape& shape, double* value, double* error,
                     int64_t* rank, void* stream) {
  if (shape.batch == 0) return;
  constexpr int kBlock = 256;
  device::launch("floored_log_sum", floored_log_sum_kernel,
                 device::grid_for(32 * shape.batch, kBlock), kBlock, stream, sigma, floor, eta,
                 delta, shape, value, error, rank);
}

}  // namespace polarity::cuda
