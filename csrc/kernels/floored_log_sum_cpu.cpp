#include "floored_log_sum.h"

#include "parallel.h"

namespace polarity::cpu {

// Logarithms and roots are the C library's: a batch has some thousands of values at most.
void floored_log_sum(const double* sigma, const double* floor, const double* eta,
                     const double* delta, const LogSumShape& shape, double* value, double* error,
                     int64_t* rank) {
  constexpr int64_t kGrain = 16;
  constexpr int64_t kApart = 8;  // partial sums: equal terms would all round to the same side
  parallel_for(shape.batch, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const double* row = sigma + b * shape.sigma_batch;
      LogTerm sums[kApart] = {};
      int64_t above = 0;
      for (int64_t i = 0; i < shape.count; ++i) {
        const double number = row[i * shape.sigma_col];
        above += number > floor[b];
        if (i >= shape.top_k) continue;
        const double off = delta[b * shape.delta_batch + i * shape.delta_col];
        const LogTerm term = floored_log(number, floor[b], eta[b], off);
        sums[i % kApart].value += term.value;
        sums[i % kApart].error += term.error;
      }
      value[b] = error[b] = 0.0;
      for (const LogTerm& sum : sums) {
        value[b] += sum.value;
        error[b] += sum.error;
      }
      rank[b] = above;
    }
  });
}

}  // namespace polarity::cpu
