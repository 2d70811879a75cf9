#include "../kernels/scale_tangents.h"

#include "check.h"

namespace polarity {
namespace {

void check(const Tensor& t, const Tensor& d) {
  check_floating(t, "scale_tangents", "t");
  check_same(t, "t", d, "d", "scale_tangents");
  bool match = t.dim() >= 2 && d.dim() == t.dim() - 1;
  for (int64_t i = 0; match && i < d.dim(); ++i) {
    match = d.size(i) == t.size(i + 1);
  }
  STD_TORCH_CHECK(match, "scale_tangents: t must be [L, B, *] and d [B, *], got t ", shape_of(t),
                  " and d ", shape_of(d));
}

// Strides of dense samples; t and out have L and B in front, d has B.
TangentLayout layout_of(const Tensor& t, const Tensor& d, const Tensor& out) {
  const int64_t probes = t.size(0);
  const int64_t batch = t.size(1);
  const int64_t samples = probes * batch;
  return {probes,        batch,        samples ? t.numel() / samples : 0,
          t.stride(0),   t.stride(1),  out.stride(0),
          out.stride(1), d.stride(0)};
}

Tensor dense(const Tensor& tensor, int64_t first_dim) {
  return is_dense_from(tensor, first_dim) ? tensor : torch::stable::contiguous(tensor);
}

void run_cpu(const Tensor& t, const Tensor& d, const Tensor& out) {
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cpu::scale_tangents<T>(input<T>(t), input<T>(d), output<T>(out), layout_of(t, d, out));
  });
}

Tensor scale_tangents_cpu(const Tensor& t_in, const Tensor& d_in) {
  check(t_in, d_in);
  const Tensor t = dense(t_in, 2);
  const Tensor d = dense(d_in, 1);
  const Tensor out = torch::stable::new_empty(t, t.sizes());
  run_cpu(t, d, out);
  return out;
}

void check_in_place(const Tensor& t) {
  STD_TORCH_CHECK(is_dense_from(t, 2),
                  "scale_tangents_: every t[l, b] must be dense in the order of its dimensions"
                  " (t.permute(...) channels last is fine, a strided slice is not); use"
                  " scale_tangents, which copies");
}

void scale_tangents_in_place_cpu(const Tensor& t, const Tensor& d_in) {
  check(t, d_in);
  check_in_place(t);
  run_cpu(t, dense(d_in, 1), t);
}

#ifdef POLARITY_WITH_CUDA
void run_cuda(const Tensor& t, const Tensor& d, const Tensor& out) {
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cuda::scale_tangents<T>(input<T>(t), input<T>(d), output<T>(out), layout_of(t, d, out),
                            current_cuda_stream(t.get_device_index()));
  });
}

Tensor scale_tangents_cuda(const Tensor& t_in, const Tensor& d_in) {
  check(t_in, d_in);
  const torch::stable::accelerator::DeviceGuard guard(t_in.get_device_index());
  const Tensor t = dense(t_in, 2);
  const Tensor d = dense(d_in, 1);
  const Tensor out = torch::stable::new_empty(t, t.sizes());
  run_cuda(t, d, out);
  return out;
}

void scale_tangents_in_place_cuda(const Tensor& t, const Tensor& d_in) {
  check(t, d_in);
  check_in_place(t);
  const torch::stable::accelerator::DeviceGuard guard(t.get_device_index());
  run_cuda(t, dense(d_in, 1), t);
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("scale_tangents", TORCH_BOX(&polarity::scale_tangents_cpu));
  m.impl("scale_tangents_", TORCH_BOX(&polarity::scale_tangents_in_place_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("scale_tangents", TORCH_BOX(&polarity::scale_tangents_cuda));
  m.impl("scale_tangents_", TORCH_BOX(&polarity::scale_tangents_in_place_cuda));
}
#endif
