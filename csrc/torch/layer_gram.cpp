#include "layer_gram.h"

#include "../kernels/layer_gram.h"

#include <tuple>

#include "../kernels/gram.h"
#include "../kernels/scale_tangents.h"
#include "check.h"

namespace polarity {
namespace {

void check(const Tensor& x, const Tensor& weight, const Tensor& factor) {
  check_floating(x, "layer_gram", "x");
  check_same(x, "x", weight, "weight", "layer_gram");
  check_same(x, "x", factor, "factor", "layer_gram");
  STD_TORCH_CHECK(x.dim() == 3 && weight.dim() == 2 && weight.size(1) == x.size(2) &&
                      factor.dim() == 2 && factor.size(0) == x.size(1) &&
                      factor.size(1) == weight.size(0),
                  "layer_gram: x must be [L, B, in], weight [out, in] and factor [B, out], got x ",
                  shape_of(x), ", weight ", shape_of(weight), " and factor ", shape_of(factor));
}

struct Operands {
  Tensor x, factor, out, size;
  LayerGramShape shape;
};

Operands prepare(const Tensor& x_in, const Tensor& weight, const Tensor& factor) {
  const bool is_dense = x_in.size(2) <= 1 || x_in.stride(2) == 1;
  const Tensor x = is_dense ? x_in : torch::stable::contiguous(x_in);
  const int64_t sizes[] = {x.size(1), x.size(0), x.size(0)};
  return {x,
          dense(factor),
          torch::stable::new_empty(x, {sizes, 3}, ScalarType::Double),
          torch::stable::new_empty(x, {sizes, 1}, ScalarType::Double),
          {x.size(0), x.size(1), x.size(2), weight.size(0), x.stride(0), x.stride(1),
           weight.stride(0), weight.stride(1)}};
}

std::tuple<Tensor, Tensor> layer_gram_cpu(const Tensor& x, const Tensor& weight,
                                          const Tensor& factor) {
  check(x, weight, factor);
  const Operands p = prepare(x, weight, factor);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::layer_gram<T>(input<T>(p.x), input<T>(weight), input<T>(p.factor), p.shape,
                       output<double>(p.out), output<double>(p.size));
  });
  return {p.out, p.size};
}

}  // namespace

#ifdef POLARITY_WITH_CUDA
// A product of the library in double, its factor in place, and gram.
std::tuple<Tensor, Tensor> layer_gram_cuda(const Tensor& x, const Tensor& weight_in,
                                           const Tensor& factor) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  check(x, weight_in, factor);
  const auto in_double = [](const Tensor& t) { return torch::stable::to(t, ScalarType::Double); };
  const Tensor weight = in_double(weight_in);
  const Operands p = prepare(in_double(x), weight, in_double(factor));
  const LayerGramShape& shape = p.shape;
  void* stream = current_cuda_stream(x.get_device_index());
  const Tensor tangents =
      torch::stable::contiguous(torch::stable::matmul(p.x, torch::stable::transpose(weight, 0, 1)));
  const int64_t run = shape.batch * shape.outputs;
  cuda::scale_tangents<double>(input<double>(tangents), input<double>(p.factor),
                               output<double>(tangents),
                               {shape.probes, shape.batch, shape.outputs, run, shape.outputs, run,
                                shape.outputs, shape.outputs},
                               stream);
  const GramShape gram{shape.batch, shape.outputs, shape.probes, shape.outputs, 1, run};
  const int64_t room[] = {gram_workspace(gram, true)};
  const Tensor workspace = torch::stable::new_empty(tangents, {room, 1});
  cuda::gram<double>(input<double>(tangents), gram, output<double>(workspace),
                     output<double>(p.out), stream);
  cuda::layer_gram_size(input<double>(p.x), input<double>(weight), input<double>(p.factor), shape,
                        output<double>(p.size), stream);
  return {p.out, p.size};
}
#endif

}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("layer_gram", TORCH_BOX(&polarity::layer_gram_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("layer_gram", TORCH_BOX(&polarity::layer_gram_cuda));
}
#endif
