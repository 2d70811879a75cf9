#include "../kernels/active_convolutions.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "check.h"

namespace polarity {
namespace {

// Of each convolution: stride, padding, size, transposed, phases.
constexpr size_t kSettings = 7;

// Whether an image has its channels last in memory; it is one piece.
bool is_channels_last(const Tensor& x) {
  const int64_t rank = x.dim(), channels = x.size(rank - 3), pixels = x.size(-2) * x.size(-1);
  return pixels > 1 && channels > 1 && x.stride(rank - 3) == 1;
}

// Dimensions -3, -2, -1 are one piece, in either order.
bool is_image(const Tensor& x) {
  if (is_contiguous_from(x, x.dim() - 3)) return true;
  const Tensor turned =
      torch::stable::transpose(torch::stable::transpose(x, -3, -1), -3, -2);  // W C -> ... H W C
  return is_contiguous_from(turned, x.dim() - 3);
}

struct Arguments {
  const Tensor& x;
  const std::vector<Tensor>& weights;
  const std::vector<Tensor>& factors;
  const std::vector<int64_t>& settings;
  const std::vector<double>& highs;
  const std::vector<int64_t>& orders;

  size_t count() const { return weights.size(); }

  void check() const {
    check_floating(x, "active_convolutions", "x");
    STD_TORCH_CHECK(x.dim() == 5, "active_convolutions: x must be [L, B or 1, C, H, W], got ",
                    shape_of(x));
    const size_t images = count() + 1;
    STD_TORCH_CHECK(count() > 0 && factors.size() == images &&
                        settings.size() == kSettings * count() && highs.size() == images &&
                        orders.size() == images,
                    "active_convolutions: there are ", count(), " weights, ", factors.size(),
                    " factors, ", settings.size(), " settings, ", highs.size(), " slopes and ",
                    orders.size(), " orders; expected 7 settings for each weight, and one more of",
                    " the others than weights");
    for (const Tensor& weight : weights)
      check_same(x, "x", weight, "weights", "active_convolutions");
  }

  // Samples: of the factors, where x is the same for all of them.
  int64_t batch() const {
    int64_t found = x.size(1);
    for (const Tensor& factor : factors) {
      if (factor.dim() > 1) found = std::max(found, factor.size(0));
    }
    return found;
  }
};

ActiveImage image_behind(const Arguments& given, size_t i, const ActiveImage& before) {
  const int64_t* const s = given.settings.data() + kSettings * i;
  const Tensor& weight = given.weights[i];
  const int64_t phases = s[6];
  STD_TORCH_CHECK(
      s[0] >= 1 && s[3] >= 0 && s[4] >= 0 && (phases == 1 || (phases == s[0] && s[5])) &&
          (phases == 1 || (s[1] >= 0 && s[2] >= 0)),
      "active_convolutions: convolution ", i, " has a stride of ", s[0], ", a padding of ", s[1],
      ", ", s[2], " and ", phases, " phases; expected those of active_weight");
  STD_TORCH_CHECK(weight.dim() == 4 && weight.size(2) == before.channels &&
                      weight.size(3) % (phases * phases) == 0,
                  "active_convolutions: weight ", i, " must be [kh, kw, ", before.channels,
                  ", out] of active_weight, got ", shape_of(weight));
  STD_TORCH_CHECK(
      weight.size(0) * weight.size(1) * weight.size(2) < std::numeric_limits<int32_t>::max(),
      "active_convolutions: weight ", i, " has 2^31 rows or more; expected fewer");
  return {weight.size(3) / (phases * phases), s[3], s[4]};
}

template <typename T>
ActiveFactor<T> factor_of(const Arguments& given, size_t i, const ActiveImage& image, int64_t batch,
                          std::vector<Tensor>& kept) {
  const Tensor& factor = given.factors[i];
  if (factor.dim() <= 1) return {nullptr, nullptr, T(1), false};
  if (factor.scalar_type() == ScalarType::Byte) {
    STD_TORCH_CHECK(
        factor.dim() == 2 && factor.size(0) == batch && factor.size(1) == (image.numbers() + 7) / 8,
        "active_convolutions: bits must be uint8 [B, ceil(n / 8)], n the numbers of an"
        " image, here ",
        batch, " and ", image.numbers(), "; factor ", i, " is ", shape_of(factor));
    kept.push_back(dense(factor));
    return {input<uint8_t>(kept.back()), nullptr, static_cast<T>(given.highs[i]),
            given.orders[i] != 0};
  }
  check_same(given.x, "x", factor, "factors", "active_convolutions");
  STD_TORCH_CHECK(factor.dim() == 4 && factor.size(0) == batch &&
                      factor.size(1) == image.channels && factor.size(2) == image.y &&
                      factor.size(3) == image.x,
                  "active_convolutions: factor ", i, " must be uint8 bits or [", batch, ", ",
                  image.channels, ", ", image.y, ", ", image.x, "], got ", shape_of(factor));
  const Tensor turned = torch::stable::transpose(torch::stable::transpose(factor, 1, 3), 1, 2);
  const bool last = !factor.is_contiguous() && turned.is_contiguous();
  kept.push_back(last ? turned : dense(factor));
  return {nullptr, input<T>(kept.back()), T(1), last};
}

Tensor active_convolutions_cpu(const Tensor& x_in, const std::vector<Tensor>& weights,
                               const std::vector<Tensor>& factors,
                               const std::vector<int64_t>& settings,
                               const std::vector<double>& highs, const std::vector<int64_t>& orders,
                               bool channels_last) {
  const Arguments given{x_in, weights, factors, settings, highs, orders};
  given.check();
  const Tensor x = is_image(x_in) ? x_in : torch::stable::contiguous(x_in);
  const int64_t batch = given.batch();
  STD_TORCH_CHECK(x.size(1) == batch || x.size(1) == 1,
                  "active_convolutions: x must be [L, B or 1, C, H, W], B as of the factors, ",
                  batch, ", got ", shape_of(x));
  std::vector<ActiveImage> images{{x.size(2), x.size(3), x.size(4)}};
  for (size_t i = 0; i < given.count(); ++i) images.push_back(image_behind(given, i, images[i]));
  const ActiveImage& last = images.back();
  const std::vector<int64_t> sizes =
      channels_last ? std::vector<int64_t>{x.size(0), batch, last.y, last.x, last.channels}
                    : std::vector<int64_t>{x.size(0), batch, last.channels, last.y, last.x};
  Tensor out = torch::stable::new_empty(x, sizes);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    ActiveChain<T> chain{input<T>(x),
                         output<T>(out),
                         x.size(0),
                         batch,
                         x.stride(0),
                         x.size(1) == 1 ? 0 : x.stride(1),
                         is_channels_last(x),
                         channels_last,
                         images,
                         {},
                         {}};
    std::vector<Tensor> kept;
    for (size_t i = 0; i < images.size(); ++i) {
      chain.factors.push_back(factor_of<T>(given, i, images[i], batch, kept));
    }
    for (size_t i = 0; i < given.count(); ++i) {
      const int64_t* const s = settings.data() + kSettings * i;
      kept.push_back(dense(weights[i]));
      const Tensor& weight = kept.back();
      chain.convolutions.push_back({input<T>(weight),
                                    {weight.size(0), s[0], s[1], s[6], s[5] != 0},
                                    {weight.size(1), s[0], s[2], s[6], s[5] != 0}});
    }
    cpu::active_convolutions<T>(chain);
  });
  if (!channels_last) return out;
  return torch::stable::transpose(torch::stable::transpose(out, -3, -1), -2, -1);
}

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("active_convolutions", TORCH_BOX(&polarity::active_convolutions_cpu));
}
