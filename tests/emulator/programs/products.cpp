// Tensor-core products of integers small enough to be exact, against the definition.
#include "csrc/device/mma.cuh"
#include "program.h"

namespace polarity::programs {
namespace {

POLARITY_GLOBAL void product_f64_kernel(const double* a, const double* b, double* c) {
  const int g = device::lane() / 4, t = device::lane() % 4;
  double sum[2] = {1, 1};
  device::mma_m8n8k4(sum, a[4 * g + t], b[8 * t + g]);
  for (int j = 0; j < 2; ++j) c[8 * g + 2 * t + j] = sum[j];
}

template <bool split>
POLARITY_GLOBAL void product_tf32_kernel(const float* a, const float* b, float* c) {
  const int g = device::lane() / 4, t = device::lane() % 4;
  const float left[4] = {a[8 * g + t], a[8 * (g + 8) + t], a[8 * g + t + 4],
                         a[8 * (g + 8) + t + 4]};
  const float right[2] = {b[8 * t + g], b[8 * (t + 4) + g]};
  float sum[4] = {1, 1, 1, 1};
  if (split)
    device::mma_m16n8k8_split(sum, left, right);
  else
    device::mma_m16n8k8(sum, left, right);
  for (int j = 0; j < 4; ++j) c[8 * (g + j / 2 * 8) + 2 * t + j % 2] = sum[j];
}

template <typename T>
std::vector<T> integers(int count, int most, int seed) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] = static_cast<T>((i * 7919 + seed) % (2 * most + 1) - most);
  }
  return values;
}

// 1 + A B, A [rows, inner], B [inner, 8]
template <typename T>
std::vector<T> product(const std::vector<T>& a, const std::vector<T>& b, size_t inner) {
  std::vector<T> c(a.size() / inner * 8, 1);
  for (size_t i = 0; i < c.size(); ++i) {
    for (size_t k = 0; k < inner; ++k) c[i] += a[i / 8 * inner + k] * b[8 * k + i % 8];
  }
  return c;
}

PROGRAM(mma_f64, wrong) {
  const auto a = integers<double>(32, 1000, 3), b = integers<double>(32, 1000, 5);
  std::vector<double> c(64);
  launch(product_f64_kernel, 1, wrong ? 16 : 32, a.data(), b.data(), c.data());
  return c == product(a, b, 4);
}

// Thirteen bits do not fit tf32: the wrong one loses the last, the split one does not.
PROGRAM(mma_tf32_split, wrong) {
  const auto a = integers<float>(128, 8191, 3), b = integers<float>(64, 8191, 5);
  std::vector<float> c(128);
  launch(wrong ? product_tf32_kernel<false> : product_tf32_kernel<true>, 1, 32, a.data(), b.data(),
         c.data());
  const auto expected = product(a, b, 8);
  for (size_t i = 0; i < c.size(); ++i) {
    if (std::abs(c[i] - expected[i]) > 256) return false;  // sums reach 2^29
  }
  return true;
}

PROGRAM(mma_tf32, wrong) {
  const auto a = integers<float>(128, wrong ? 8191 : 1023, 3), b = integers<float>(64, 127, 5);
  std::vector<float> c(128);
  launch(product_tf32_kernel<false>, 1, 32, a.data(), b.data(), c.data());
  return c == product(a, b, 8);
}

}  // namespace
}  // namespace polarity::programs
