#pragma once

#include "../device/reduce.cuh"
#include "floored_log_sum.h"

namespace polarity {

// A warp for each row.
POLARITY_GLOBAL void floored_log_sum_kernel(const double* sigma, const double* floor,
                                            const double* eta, const double* delta,
                                            LogSumShape shape, double* value, double* error,
                                            int64_t* rank) {
  const int64_t warps = device::grid_threads() / 32;
  for (int64_t b = device::thread_index() / 32; b < shape.batch; b += warps) {
    const double* row = sigma + b * shape.sigma_batch;
    LogTerm sum{0.0, 0.0};
    int above = 0;
    for (int64_t i = device::lane(); i < shape.count; i += 32) {
      const double number = row[i * shape.sigma_col];
      above += number > floor[b];
      if (i >= shape.top_k) continue;
      const double off = delta[b * shape.delta_batch + i * shape.delta_col];
      const LogTerm term = floored_log(number, floor[b], eta[b], off);
      sum.value += term.value;
      sum.error += term.error;
    }
    sum = {device::warp_sum(sum.value), device::warp_sum(sum.error)};
    above = device::warp_sum(above);
    if (device::lane() == 0) {
      value[b] = sum.value;
      error[b] = sum.error;
      rank[b] = above;
    }
  }
}

}  // namespace polarity
