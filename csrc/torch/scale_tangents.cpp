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

struct Operands {
  Tensor t, d, out;
};

// t and d as they are, where samples are dense and in the same order in both, else contiguous
// copies; out is laid out like t.
Operands prepare(const Tensor& t, const Tensor& d) {
  check(t, d);
  if (is_dense_from(t, 2) && same_order(t, 2, d, 1)) {
    const Tensor out = torch::stable::empty_like(t);
    if (same_order(t, 2, out, 2)) return {t, d, out};
  }
  return {torch::stable::contiguous(t), torch::stable::contiguous(d),
          torch::stable::new_empty(t, t.sizes())};
}

// Elements from the first to the last one in memory, of a tensor that is not empty.
int64_t extent(const Tensor& tensor) {
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
  return last + 1;
}

bool share_memory(const Tensor& a, const Tensor& b) {
  const auto first = [](const Tensor& x) { return static_cast<const char*>(x.data_ptr()); };
  const auto last = [&](const Tensor& x) {
    return first(x) + extent(x) * static_cast<int64_t>(x.element_size());
  };
  return first(a) < last(b) && first(b) < last(a);
}

// No element of t[l, b] is an element of another sample: each stride of l and b passes over what
// the smaller one spans.
bool samples_are_apart(const Tensor& t) {
  const int64_t inner = t.stride(0) < t.stride(1) ? 0 : 1;
  int64_t span = t.numel() / (t.size(0) * t.size(1));
  for (const int64_t dim : {inner, 1 - inner}) {
    if (t.size(dim) == 1) continue;
    if (t.stride(dim) < span) return false;
    span += (t.size(dim) - 1) * t.stride(dim);
  }
  return true;
}

// d, or a copy of it where it lies in another order than t or in t itself.
Tensor prepare_in_place(const Tensor& t, const Tensor& d) {
  check(t, d);
  if (t.numel() == 0) return d;
  STD_TORCH_CHECK(
      is_dense_from(t, 2) && samples_are_apart(t),
      "scale_tangents_: every t[l, b] must be dense (in any order of its dimensions) and"
      " lie apart from the others; t of shape ",
      shape_of(t), " is strided or expanded; use scale_tangents, which copies");
  if (same_order(t, 2, d, 1) && !share_memory(t, d)) return d;
  Tensor own = torch::stable::empty_like(torch::stable::select(t, 0, 0));
  torch::stable::copy_(own, d);
  return own;
}

// Strides of dense samples; t and out have L and B in front, d has B.
TangentLayout layout_of(const Tensor& t, const Tensor& d, const Tensor& out) {
  const int64_t probes = t.size(0);
  const int64_t batch = t.size(1);
  const int64_t samples = probes * batch;
  return {probes,        batch,       samples ? t.numel() / samples : 0,
          t.stride(0),   t.stride(1), out.stride(0),
          out.stride(1), d.stride(0)};
}

void run_cpu(const Tensor& t, const Tensor& d, const Tensor& out) {
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cpu::scale_tangents<T>(input<T>(t), input<T>(d), output<T>(out), layout_of(t, d, out));
  });
}

Tensor scale_tangents_cpu(const Tensor& t, const Tensor& d) {
  const Operands ready = prepare(t, d);
  run_cpu(ready.t, ready.d, ready.out);
  return ready.out;
}

void scale_tangents_in_place_cpu(const Tensor& t, const Tensor& d) {
  run_cpu(t, prepare_in_place(t, d), t);
}

#ifdef POLARITY_WITH_CUDA
void run_cuda(const Tensor& t, const Tensor& d, const Tensor& out) {
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cuda::scale_tangents<T>(input<T>(t), input<T>(d), output<T>(out), layout_of(t, d, out),
                            current_cuda_stream(t.get_device_index()));
  });
}

Tensor scale_tangents_cuda(const Tensor& t, const Tensor& d) {
  const torch::stable::accelerator::DeviceGuard guard(t.get_device_index());
  const Operands ready = prepare(t, d);
  run_cuda(ready.t, ready.d, ready.out);
  return ready.out;
}

void scale_tangents_in_place_cuda(const Tensor& t, const Tensor& d) {
  const torch::stable::accelerator::DeviceGuard guard(t.get_device_index());
  run_cuda(t, prepare_in_place(t, d), t);
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
