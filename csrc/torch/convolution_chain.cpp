// Convolutions one behind the other in one call: behind a large kernel, which has emptied the
// caches, the way through Python and the dispatcher to the next one is a long one.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "convolutions.h"

namespace polarity {
namespace {

// Of each convolution: whether to few channels, kernel, stride, padding, size, transposed.
constexpr size_t kSettings = 8;

// What lies between two convolutions should still be in the caches when it is read: so many bytes
// of it at a time for every thread, where weights, which are read each time, are no more than that.
constexpr int64_t kCacheBytes = 2 << 20;

struct Chain {
  const std::vector<Tensor>& weights;
  const std::vector<Tensor>& factors;
  const std::vector<int64_t>& settings;
  const std::vector<double>& slopes;

  size_t count() const { return weights.size(); }
  const int64_t* setting(size_t i) const { return settings.data() + kSettings * i; }
  bool to_few(size_t i) const { return setting(i)[0] != 0; }

  void check() const {
    STD_TORCH_CHECK(count() > 0 && factors.size() == count() &&
                        settings.size() == kSettings * count() && slopes.size() == 2 * count(),
                    "convolution_chain: there are ", count(), " weights, ", factors.size(),
                    " factors, ", settings.size(), " settings and ", slopes.size(),
                    " slopes; expected one factor, 8 settings and 2 slopes for each weight");
  }

  Tensor run(const Tensor& x, Winograd* winograd, ConvolveToFew* convolve_to_few) const {
    Tensor images = x;
    for (size_t i = 0; i < count(); ++i) {
      const int64_t* const s = setting(i);
      const Pair padding{s[3], s[4]}, size{s[5], s[6]};
      std::optional<Tensor> factor;
      if (factors[i].dim() > 1) factor = factors[i];
      images = to_few(i) ? convolve_to_few(images, weights[i], s[2], padding, size, factor)
                         : winograd(images, weights[i], s[1], s[2], padding, size, s[7] != 0,
                                    factor, slopes[2 * i], slopes[2 * i + 1]);
    }
    return images;
  }

  // Numbers of an image between two convolutions, the most.
  int64_t widest() const {
    int64_t most = 1;
    for (size_t i = 0; i + 1 < count(); ++i) {
      const int64_t* const s = setting(i);
      const Tensor& weight = weights[i];
      if (weight.dim() != 4) continue;  // refused by its convolution
      const int64_t phases = s[7] != 0 ? s[2] * s[2] : 1;
      const int64_t channels = to_few(i)
                                   ? weight.size(1)
                                   : weight.size(1) * weight.size(3) / std::max<int64_t>(1, phases);
      most = std::max(most, s[5] * s[6] * channels);
    }
    return most;
  }

  // Parts of x [L, *, B, C, H, W], along L, that go through the chain one by one.
  int64_t parts(const Tensor& x) const {
    if (count() < 2 || x.dim() < 5 || x.size(0) < 2) return 1;
    const int64_t bytes = x.scalar_type() == ScalarType::Double ? 8 : 4;
    int64_t weight = 0;
    for (const Tensor& one : weights) weight += one.numel() * bytes;
    if (weight > kCacheBytes) return 1;
    int64_t images = 1;
    for (int64_t i = 0; i < x.dim() - 3; ++i) images *= x.size(i);
    const int64_t most = kCacheBytes * static_cast<int64_t>(torch::stable::get_num_threads());
    return std::clamp<int64_t>((images * widest() * bytes + most - 1) / most, 1, x.size(0));
  }
};

// As the last convolution lays out its results, for `count` times as many as `part` has.
Tensor room_for(const Tensor& part, int64_t length) {
  std::vector<int64_t> sizes(part.sizes().begin(), part.sizes().end());
  sizes[0] = length;
  if (part.is_contiguous()) return torch::stable::new_empty(part, sizes);
  std::rotate(sizes.end() - 3, sizes.end() - 2, sizes.end());  // channels last
  const Tensor room = torch::stable::new_empty(part, sizes);
  return torch::stable::transpose(torch::stable::transpose(room, -3, -1), -2, -1);
}

Tensor convolution_chain_cpu(const Tensor& x, const std::vector<Tensor>& weights,
                             const std::vector<Tensor>& factors,
                             const std::vector<int64_t>& settings,
                             const std::vector<double>& slopes) {
  const Chain chain{weights, factors, settings, slopes};
  chain.check();
  const int64_t parts = chain.parts(x);
  if (parts == 1) return chain.run(x, winograd_cpu, convolve_to_few_cpu);
  Tensor probes = x;
  const auto begin = [&](int64_t i) { return i * x.size(0) / parts; };
  const auto part = [&](Tensor& all, int64_t i) {
    return torch::stable::narrow(all, 0, begin(i), begin(i + 1) - begin(i));
  };
  Tensor found = chain.run(part(probes, 0), winograd_cpu, convolve_to_few_cpu);
  Tensor out = room_for(found, x.size(0));
  for (int64_t i = 0; i < parts; ++i) {
    if (i > 0) found = chain.run(part(probes, i), winograd_cpu, convolve_to_few_cpu);
    Tensor place = part(out, i);
    torch::stable::copy_(place, found);
  }
  return out;
}

#ifdef POLARITY_WITH_CUDA
Tensor convolution_chain_cuda(const Tensor& x, const std::vector<Tensor>& weights,
                              const std::vector<Tensor>& factors,
                              const std::vector<int64_t>& settings,
                              const std::vector<double>& slopes) {
  const Chain chain{weights, factors, settings, slopes};
  chain.check();
  return chain.run(x, winograd_cuda, convolve_to_few_cuda);
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
