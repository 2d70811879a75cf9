// The convolutions by hand-written kernels, for whoever runs several of them.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace polarity {

using Pair = std::vector<int64_t>;  // y, x

using Winograd = torch::stable::Tensor(const torch::stable::Tensor& x,
                                       const torch::stable::Tensor& weight, int64_t kernel,
                                       int64_t stride, const Pair& padding, const Pair& size,
                                       bool transposed,
                                       const std::optional<torch::stable::Tensor>& bits, double low,
                                       double high);
using ConvolveToFew = torch::stable::Tensor(const torch::stable::Tensor& x,
                                            const torch::stable::Tensor& weight, int64_t stride,
                                            const Pair& padding, const Pair& size,
                                            const std::optional<torch::stable::Tensor>& factor);

Winograd winograd_cpu;
ConvolveToFew convolve_to_few_cpu;
#ifdef POLARITY_WITH_CUDA
Winograd winograd_cuda;
ConvolveToFew convolve_to_few_cuda;
#endif

}  // namespace polarity
