// Convolutions one behind the other in one call: behind a large kernel, which has emptied the
// caches, the way through Python and the dispatcher to the next one is a long one.
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "convolutions.h"

namespace polarity {
namespace {

// Of each convolution: whether to few channels, kernel, stride, padding, size, transposed.
constexpr size_t kSettings = 8;

template <class Winograd, class Few>
Tensor run_chain(const Tensor& x, const std::vector<Tensor>& weights,
                 const std::vector<Tensor>& factors, const std::vector<int64_t>& settings,
                 const std::vector<double>& slopes, Winograd winograd, Few convolve_to_few) {
  const size_t count = weights.size();
  STD_TORCH_CHECK(count > 0 && factors.size() == count && settings.size() == kSettings * count &&
                      slopes.size() == 2 * count,
                  "convolution_chain: there are ", count, " weights, ", factors.size(),
                  " factors, ", settings.size(), " settings and ", slopes.size(),
                  " slopes; expected one factor, 8 settings and 2 slopes for each weight");
  Tensor images = x;
  for (size_t i = 0; i < count; ++i) {
    const int64_t* const s = settings.data() + kSettings * i;
    const Pair padding{s[3], s[4]}, size{s[5], s[6]};
    std::optional<Tensor> factor;
    if (factors[i].dim() > 1) factor = factors[i];
    images = s[0] != 0 ? convolve_to_few(images, weights[i], s[2], padding, size, factor)
                       : winograd(images, weights[i], s[1], s[2], padding, size, s[7] != 0, factor,
                                  slopes[2 * i], slopes[2 * i + 1]);
  }
  return images;
}

Tensor convolution_chain_cpu(const Tensor& x, const std::vector<Tensor>& weights,
                             const std::vector<Tensor>& factors,
                             const std::vector<int64_t>& settings,
                             const std::vector<double>& slopes) {
  return run_chain(x, weights, factors, settings, slopes, winograd_cpu, convolve_to_few_cpu);
}

#ifdef POLARITY_WITH_CUDA
Tensor convolution_chain_cuda(const Tensor& x, const std::vector<Tensor>& weights,
                              const std::vector<Tensor>& factors,
                              const std::vector<int64_t>& settings,
                              const std::vector<double>& slopes) {
  return run_chain(x, weights, factors, settings, slopes, winograd_cuda, convolve_to_few_cuda);
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("convolution_chain", TORCH_BOX(&polarity::convolution_chain_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("convolution_chain", TORCH_BOX(&polarity::convolution_chain_cuda));
}
#endif
