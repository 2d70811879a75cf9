// From singular values to a log-volume, a bound on its error and the numerical rank, in one pass:
//   value[b] = sum over i < top_k of log max(sigma[b, i], floor[b])
//   error[b] = sum over i < top_k of the most by which such a logarithm can be off
//   rank[b]  = how many of all sigma[b, i] lie above floor[b]
// The true value lies between sqrt(sigma^2 - delta) - eta and sqrt(sigma^2 + delta) + eta, and is
// compared as max(it, floor). At or below the floor nothing is known: the error is infinite.
#pragma once

#include <cmath>
#include <cstdint>

#include "../device/host_device.h"

namespace polarity {

struct LogSumShape {
  int64_t batch, count, top_k;     // sigma is [batch, count], delta [batch, count]
  int64_t sigma_batch, sigma_col;  // strides, in elements
  int64_t delta_batch, delta_col;
};

struct LogTerm {
  double value, error;
};

// One term of both sums. NaN comes out where NaN goes in; an eta or delta that is NaN makes the
// error NaN alone.
POLARITY_HOST_DEVICE LogTerm floored_log(double sigma, double floor, double eta, double delta) {
  const double clipped = sigma > floor ? sigma : (sigma <= floor ? floor : sigma + floor);
  const double square = clipped * clipped;
  const double inner = square - delta;
  const double least = ::sqrt(inner < 0.0 ? 0.0 : inner) - eta;
  const double most = ::sqrt(square + delta) + eta;
  double error = least + most;  // NaN where either is
  if (error == error) {
    const double below = clipped / (least < floor ? floor : least), above = most / clipped;
    error = sigma > floor ? ::log(below > above ? below : above) : static_cast<double>(INFINITY);
  }
  return {::log(clipped), error};
}

namespace cpu {
void floored_log_sum(const double* sigma, const double* floor, const double* eta,
                     const double* delta, const LogSumShape& shape, double* value, double* error,
                     int64_t* rank);
}
namespace cuda {
void floored_log_sum(const double* sigma, const double* floor, const double* eta,
                     const double* delta, const LogSumShape& shape, double* value, double* error,
                     int64_t* rank, void* stream);
}

}  // namespace polarity
