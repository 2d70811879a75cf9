#include "../kernels/mlp_tangents.h"

#include <array>
#include <string>
#include <tuple>
#include <vector>

#include "../kernels/mlp_gram.h"
#include "../kernels/scale_tangents.h"
#include "check.h"
#include "layer_gram.h"

namespace polarity {
namespace {

// Weights are [out, in]. Tangents go through them in order, with factors[i] behind weights[i];
// cotangents through their transposes in reverse order, with factors[i] before weights[i].
struct Perceptron {
  const char* name;
  bool adjoint;
  std::vector<Tensor> weights;  // of every step
  std::vector<Tensor> factors;  // [B, width] of every width, undefined where there is none
  std::vector<int64_t> widths;

  // [in, out] of a step.
  Tensor matrix(size_t step) const {
    return adjoint ? weights[step] : torch::stable::transpose(weights[step], 0, 1);
  }
};

Perceptron read(const char* name, const Tensor& v, const std::vector<Tensor>& weights,
                const std::vector<Tensor>& factors, bool adjoint) {
  const char* argument = adjoint ? "u" : "v";
  check_floating(v, name, argument);
  const size_t layers = weights.size();
  STD_TORCH_CHECK(layers >= 1 && layers <= static_cast<size_t>(kMlpLayers), name, ": there are ",
                  layers, " weights; it takes 1 to ", kMlpLayers, " (call it once for each part)");
  STD_TORCH_CHECK(factors.size() == layers, name, ": there are ", layers, " weights and ",
                  factors.size(), " factors; every weight needs the factor behind it");
  Perceptron mlp{name, adjoint, {}, {}, {}};
  for (size_t i = 0; i < layers; ++i) {
    const std::string at = "[" + std::to_string(i) + "]";
    check_same(v, argument, weights[i], ("weights" + at).c_str(), name);
    check_same(v, argument, factors[i], ("factors" + at).c_str(), name);
    STD_TORCH_CHECK(
        weights[i].dim() == 2 && (i == 0 || weights[i].size(1) == weights[i - 1].size(0)), name,
        ": weights", at, " must be [out, in], with in the out of the one before, got ",
        shape_of(weights[i]));
    STD_TORCH_CHECK(factors[i].dim() == 2 && factors[i].size(1) == weights[i].size(0) &&
                        factors[i].size(0) == factors[0].size(0),
                    name, ": factors", at, " must be [B, out] with the out of weights", at, ", ",
                    weights[i].size(0), ", and one B for all, got ", shape_of(factors[i]));
  }
  const Tensor none;
  for (size_t step = 0; step < layers; ++step) {
    const size_t i = adjoint ? layers - 1 - step : step;
    mlp.weights.push_back(weights[i]);
    mlp.widths.push_back(weights[i].size(adjoint ? 0 : 1));
  }
  mlp.widths.push_back(mlp.weights.back().size(adjoint ? 1 : 0));
  for (size_t step = 0; step <= layers; ++step) {
    const bool has = adjoint ? step < layers : step > 0;
    const size_t i = adjoint ? layers - 1 - step : step - 1;
    mlp.factors.push_back(has ? dense(factors[i]) : none);
  }
  const int64_t batch = factors[0].size(0);
  const bool match = (v.dim() == 2 || (v.dim() == 3 && v.size(1) == batch)) &&
                     v.size(v.dim() - 1) == mlp.widths[0];
  STD_TORCH_CHECK(match, name, ": ", argument, " must be [L, ", mlp.widths[0], "] or [L, ", batch,
                  ", ", mlp.widths[0], "], got ", shape_of(v));
  return mlp;
}

// Without the memory for the result.
template <typename T>
MlpChain<T> chain_of(const Tensor& v, const Perceptron& mlp, int64_t batch) {
  MlpChain<T> chain{};
  chain.layers = static_cast<int>(mlp.weights.size());
  chain.probes = v.size(0);
  chain.batch = batch;
  for (int i = 0; i <= chain.layers; ++i) {
    chain.width[i] = mlp.widths[i];
    chain.factor[i] = mlp.factors[i].defined() ? input<T>(mlp.factors[i]) : nullptr;
  }
  chain.v = input<T>(v);
  chain.v_probe = v.stride(0);
  chain.v_batch = v.dim() == 3 ? v.stride(1) : 0;
  chain.v_unit = v.stride(v.dim() - 1);
  return chain;
}

// The matrices as the kernels read them; the caller keeps what is returned until they are through.
template <typename T>
std::vector<Tensor> attach_matrices(MlpChain<T>& chain, const Perceptron& mlp) {
  std::vector<Tensor> matrices;
  for (int i = 0; i < chain.layers; ++i) {
    const Tensor& weight = mlp.weights[i];
    const bool is_transpose = weight.stride(0) == 1 && weight.stride(1) == weight.size(0);
    const bool fits = mlp.adjoint ? weight.is_contiguous() : is_transpose;
    matrices.push_back(fits ? weight : torch::stable::contiguous(mlp.matrix(i)));
    chain.matrix[i] = input<T>(matrices.back());
  }
  return matrices;
}

// v itself where its last dimension is dense, else a copy, probe by probe: torch transposes a
// matrix faster than it permutes dimensions.
Tensor dense_rows(const Tensor& v) {
  const int64_t last = v.dim() - 1;
  if (v.size(last) <= 1 || v.stride(last) == 1 || v.numel() == 0) return v;
  const Tensor flat = torch::stable::reshape(v, {v.size(0), v.numel() / v.size(0)});
  return torch::stable::reshape(torch::stable::contiguous(flat), v.sizes());
}

Tensor new_out(const Tensor& v, const Perceptron& mlp, const std::vector<Tensor>& factors) {
  const std::array<int64_t, 3> sizes{v.size(0), factors[0].size(0), mlp.widths.back()};
  return torch::stable::new_empty(v, {sizes.data(), sizes.size()});
}

// A matrix product for all samples at once, then its factor, layer by layer: where there is little
// to drop. `scale(t, factor, out, layout)` is the kernel of scale_tangents.
template <typename T, class Scale>
Tensor layer_by_layer(const Tensor& v, const Perceptron& mlp, int64_t batch, const Scale& scale) {
  const int64_t probes = v.size(0);
  Tensor t = dense_rows(v);
  bool is_shared = v.dim() == 2;  // still one for all samples
  const auto apply_factor = [&](size_t i) {
    if (!mlp.factors[i].defined()) return;
    const int64_t size = mlp.widths[i];
    const std::array<int64_t, 3> sizes{probes, batch, size};
    // In place, except on what the caller or all samples share.
    const bool is_own = i > 0 && !is_shared;
    const Tensor out = is_own ? t : torch::stable::new_empty(t, {sizes.data(), sizes.size()});
    const int64_t t_batch = is_shared ? 0 : t.stride(1);
    scale(input<T>(t), input<T>(mlp.factors[i]), output<T>(out),
          TangentLayout{probes, batch, size, t.stride(0), t_batch, batch * size, size, size});
    t = out;
    is_shared = false;
  };
  apply_factor(0);
  for (size_t i = 0; i < mlp.weights.size(); ++i) {
    t = torch::stable::matmul(t, mlp.matrix(i));
    apply_factor(i + 1);
  }
  return t;  // of all samples, since some step has a factor
}

const char* name_of(bool adjoint) { return adjoint ? "mlp_cotangents" : "mlp_tangents"; }

Tensor mlp_cpu(const Tensor& v, const std::vector<Tensor>& weights,
               const std::vector<Tensor>& factors, bool adjoint) {
  const Perceptron mlp = read(name_of(adjoint), v, weights, factors, adjoint);
  Tensor out = new_out(v, mlp, factors);
  for_type(v, [&](auto zero) {
    using T = decltype(zero);
    MlpChain<T> chain = chain_of<T>(v, mlp, out.size(1));
    chain.out = output<T>(out);
    constexpr double kWorth = 0.9;  // what is gathered is spread over more, and smaller, products
    if (cpu::mlp_tangents_share(chain) < kWorth) {
      const std::vector<Tensor> matrices = attach_matrices(chain, mlp);
      cpu::mlp_tangents(chain);
    } else {
      out = layer_by_layer<T>(v, mlp, chain.batch, [](auto... a) { cpu::scale_tangents<T>(a...); });
    }
  });
  return out;
}

// The weight and factor of the last layer, which are removed.
std::tuple<Tensor, Tensor> take_last(const Tensor& v, std::vector<Tensor>& weights,
                                     std::vector<Tensor>& factors) {
  STD_TORCH_CHECK(weights.size() >= 2 && factors.size() == weights.size(), "mlp_gram: there are ",
                  weights.size(), " weights and ", factors.size(),
                  " factors; it takes two layers at least, and every weight needs the factor "
                  "behind it");
  const Tensor weight = weights.back(), factor = factors.back(), before = factors.end()[-2];
  weights.pop_back();
  factors.pop_back();
  check_same(v, "v", weight, "the last weight", "mlp_gram");
  check_same(v, "v", factor, "the last factor", "mlp_gram");
  STD_TORCH_CHECK(weight.dim() == 2 && factor.dim() == 2 && before.dim() == 2 &&
                      weight.size(1) == before.size(1) && factor.size(1) == weight.size(0) &&
                      factor.size(0) == before.size(0),
                  "mlp_gram: the last weight and factor, ", shape_of(weight), " and ",
                  shape_of(factor), ", do not fit each other or the factor before, ",
                  shape_of(before));
  return {weight, factor};
}

std::tuple<Tensor, Tensor> mlp_gram_cpu(const Tensor& v, std::vector<Tensor> weights,
                                        std::vector<Tensor> factors) {
  Tensor weight, factor;
  std::tie(weight, factor) = take_last(v, weights, factors);
  factor = dense(factor);
  const Perceptron mlp = read("mlp_gram", v, weights, factors, false);
  const int64_t probes = v.size(0), batch = factor.size(0);
  const std::array<int64_t, 3> sizes{batch, probes, probes};
  const Tensor out = torch::stable::new_empty(v, {sizes.data(), 3}, ScalarType::Double);
  const Tensor size = torch::stable::new_empty(v, {sizes.data(), 1}, ScalarType::Double);
  for_type(v, [&](auto zero) {
    using T = decltype(zero);
    MlpChain<T> chain = chain_of<T>(v, mlp, batch);
    const std::vector<Tensor> matrices = attach_matrices(chain, mlp);
    const LayerGramShape shape{probes, batch, mlp.widths.back(), weight.size(0),
                               0,      0,     weight.stride(0),  weight.stride(1)};
    cpu::mlp_gram<T>(chain, input<T>(weight), input<T>(factor), shape, output<double>(out),
                     output<double>(size));
  });
  return {out, size};
}

#ifdef POLARITY_WITH_CUDA
Tensor mlp_cuda(const Tensor& v_in, const std::vector<Tensor>& weights,
                const std::vector<Tensor>& factors, bool adjoint) {
  const torch::stable::accelerator::DeviceGuard guard(v_in.get_device_index());
  const Perceptron mlp = read(name_of(adjoint), v_in, weights, factors, adjoint);
  const Tensor v = dense_rows(v_in);
  Tensor out = new_out(v, mlp, factors);
  void* stream = current_cuda_stream(v.get_device_index());
  for_type(v, [&](auto zero) {
    using T = decltype(zero);
    MlpChain<T> chain = chain_of<T>(v, mlp, out.size(1));
    chain.out = output<T>(out);
    if (cuda::mlp_tangents_fits(chain)) {
      const std::vector<Tensor> matrices = attach_matrices(chain, mlp);
      cuda::mlp_tangents(chain, stream);
    } else {
      out = layer_by_layer<T>(v, mlp, chain.batch,
                              [&](auto... a) { cuda::scale_tangents<T>(a..., stream); });
    }
  });
  return out;
}

std::tuple<Tensor, Tensor> mlp_gram_cuda(const Tensor& v, std::vector<Tensor> weights,
                                         std::vector<Tensor> factors) {
  const auto [weight, factor] = take_last(v, weights, factors);
  return layer_gram_cuda(mlp_cuda(v, weights, factors, false), weight, factor);
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("mlp_tangents", TORCH_BOX(&polarity::mlp_cpu));
  m.impl("mlp_gram", TORCH_BOX(&polarity::mlp_gram_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("mlp_tangents", TORCH_BOX(&polarity::mlp_cuda));
  m.impl("mlp_gram", TORCH_BOX(&polarity::mlp_gram_cuda));
}
#endif
