#include "../kernels/mask_tangents.h"

#include <tuple>

#include "check.h"

namespace polarity {
namespace {

int64_t size_of(const Tensor& t, int64_t first) {
  int64_t size = 1;
  for (int64_t i = first; i < t.dim(); ++i) size *= t.size(i);
  return size;
}

struct Rectified {
  Tensor x, y, bits;
  int64_t batch, size;
};

Rectified prepare(const Tensor& x_in) {
  check_floating(x_in, "rectify", "x");
  STD_TORCH_CHECK(x_in.dim() >= 1, "rectify: x must be [B, *], got x ", shape_of(x_in));
  const Tensor x = dense(x_in);
  const int64_t batch = x.size(0), size = size_of(x, 1);
  const int64_t sizes[] = {batch, (size + 7) / 8};
  return {x, torch::stable::new_empty(x, x.sizes()),
          torch::stable::new_empty(x, {sizes, 2}, ScalarType::Byte), batch, size};
}

std::tuple<Tensor, Tensor> rectify_cpu(const Tensor& x, double slope) {
  const Rectified ready = prepare(x);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cpu::rectify<T>(input<T>(ready.x), static_cast<T>(slope), output<T>(ready.y),
                    output<uint8_t>(ready.bits), ready.batch, ready.size);
  });
  return {ready.y, ready.bits};
}

void check(const Tensor& t, const Tensor& bits) {
  check_floating(t, "mask_tangents", "t");
  STD_TORCH_CHECK(bits.scalar_type() == ScalarType::Byte, "mask_tangents: bits is ",
                  bits.scalar_type(), "; it must be uint8, as rectify returns it");
  STD_TORCH_CHECK(t.is_cuda() == bits.is_cuda() && t.get_device_index() == bits.get_device_index(),
                  "mask_tangents: t and bits are on different devices; move one with .to()");
  STD_TORCH_CHECK(t.dim() >= 2 && bits.dim() == 2 && bits.size(0) == t.size(1) &&
                      bits.size(1) == (size_of(t, 2) + 7) / 8,
                  "mask_tangents: t must be [L, B, *] and bits [B, ceil(n / 8)], n the numbers of"
                  " a sample, got t ",
                  shape_of(t), " and bits ", shape_of(bits));
}

void check_in_place(const Tensor& t, const Tensor& bits) {
  check(t, bits);
  const int64_t size = size_of(t, 2);
  const int64_t inner = t.stride(0) < t.stride(1) ? 0 : 1;
  const bool apart = (t.size(inner) < 2 || t.stride(inner) >= size) &&
                     (t.size(1 - inner) < 2 ||
                      t.stride(1 - inner) >= size + (t.size(inner) - 1) * t.stride(inner));
  STD_TORCH_CHECK(t.numel() == 0 || (is_contiguous_from(t, 2) && apart),
                  "mask_tangents_: every t[l, b] must be contiguous and lie apart from the others;"
                  " t of shape ",
                  shape_of(t), " is not; use mask_tangents, which copies");
}

MaskLayout layout_of(const Tensor& t, const Tensor& out) {
  return {t.size(0),   t.size(1),     size_of(t, 2), t.stride(0),
          t.stride(1), out.stride(0), out.stride(1)};
}

void run_cpu(const Tensor& t, const Tensor& bits, double low, double high, const Tensor& out) {
  const Tensor mask = dense(bits);
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cpu::mask_tangents<T>(input<T>(t), input<uint8_t>(mask), static_cast<T>(low),
                          static_cast<T>(high), output<T>(out), layout_of(t, out));
  });
}

Tensor mask_tangents_cpu(const Tensor& t_in, const Tensor& bits, double low, double high) {
  check(t_in, bits);
  const Tensor t = is_contiguous_from(t_in, 2) ? t_in : torch::stable::contiguous(t_in);
  const Tensor out = torch::stable::new_empty(t, t.sizes());
  run_cpu(t, bits, low, high, out);
  return out;
}

void mask_tangents_in_place_cpu(const Tensor& t, const Tensor& bits, double low, double high) {
  check_in_place(t, bits);
  run_cpu(t, bits, low, high, t);
}

#ifdef POLARITY_WITH_CUDA
std::tuple<Tensor, Tensor> rectify_cuda(const Tensor& x, double slope) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Rectified ready = prepare(x);
  for_type(x, [&](auto zero) {
    using T = decltype(zero);
    cuda::rectify<T>(input<T>(ready.x), static_cast<T>(slope), output<T>(ready.y),
                     output<uint8_t>(ready.bits), ready.batch, ready.size,
                     current_cuda_stream(x.get_device_index()));
  });
  return {ready.y, ready.bits};
}

void run_cuda(const Tensor& t, const Tensor& bits, double low, double high, const Tensor& out) {
  const Tensor mask = dense(bits);
  for_type(t, [&](auto zero) {
    using T = decltype(zero);
    cuda::mask_tangents<T>(input<T>(t), input<uint8_t>(mask), static_cast<T>(low),
                           static_cast<T>(high), output<T>(out), layout_of(t, out),
                           current_cuda_stream(t.get_device_index()));
  });
}

Tensor mask_tangents_cuda(const Tensor& t_in, const Tensor& bits, double low, double high) {
  const torch::stable::accelerator::DeviceGuard guard(t_in.get_device_index());
  check(t_in, bits);
  const Tensor t = is_contiguous_from(t_in, 2) ? t_in : torch::stable::contiguous(t_in);
  const Tensor out = torch::stable::new_empty(t, t.sizes());
  run_cuda(t, bits, low, high, out);
  return out;
}

void mask_tangents_in_place_cuda(const Tensor& t, const Tensor& bits, double low, double high) {
  const torch::stable::accelerator::DeviceGuard guard(t.get_device_index());
  check_in_place(t, bits);
  run_cuda(t, bits, low, high, t);
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("rectify", TORCH_BOX(&polarity::rectify_cpu));
  m.impl("mask_tangents", TORCH_BOX(&polarity::mask_tangents_cpu));
  m.impl("mask_tangents_", TORCH_BOX(&polarity::mask_tangents_in_place_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("rectify", TORCH_BOX(&polarity::rectify_cuda));
  m.impl("mask_tangents", TORCH_BOX(&polarity::mask_tangents_cuda));
  m.impl("mask_tangents_", TORCH_BOX(&polarity::mask_tangents_in_place_cuda));
}
#endif
