#include "../kernels/modulate_tangents.h"

#include <tuple>

#include "check.h"
#include "modulate_layout.h"

namespace polarity {
namespace {

void check(const char* name, const char* argument, const Tensor& t, const Tensor& x,
           const Tensor& s) {
  check_floating(t, name, argument);
  check_same(t, argument, x, "x", name);
  check_same(t, argument, s, "s", name);
  bool match = x.dim() >= 2 && t.dim() == x.dim() + 1 && s.dim() == 2 && s.size(0) == x.size(0) &&
               s.size(1) == x.size(1);
  for (int64_t i = 0; match && i < x.dim(); ++i) match = t.size(i + 1) == x.size(i);
  STD_TORCH_CHECK(match, name, ": ", argument,
                  " must be [L, B, C, *], x [B, C, *] and s [B, C], got ", argument, " ",
                  shape_of(t), ", x ", shape_of(x), " and s ", shape_of(s));
}

struct Operands {
  Tensor t, x, out;
  ModulateLayout layout;
};

// The arguments as they are where their order in memory allows it, else contiguous copies.
Operands prepare(const Tensor& t, const Tensor& x) {
  if (t.numel() == 0) {
    const ModulateLayout empty{t.size(0), x.size(0), x.size(1), 0, false, 0};
    return {t, x, torch::stable::new_empty(t, t.sizes()), empty};
  }
  if (const auto layout = find_modulate_layout(t, x)) {
    const Tensor out = torch::stable::empty_like(t);
    if (same_order(t, 1, out, 1)) return {t, x, out, *layout};
  }
  const Tensor t_copy = torch::stable::contiguous(t), x_copy = torch::stable::contiguous(x);
  const auto layout = find_modulate_layout(t_copy, x_copy);
  STD_TORCH_CHECK(layout.has_value(), "modulate_tangents: contiguous tensors have a layout");
  return {t_copy, x_copy, torch::stable::new_empty(t, t.sizes()), layout.value()};
}

// tx where it is, to be overwritten.
Operands prepare_in_place(const Tensor& tx, const Tensor& x) {
  if (tx.numel() == 0) return {tx, x, tx, {tx.size(0), x.size(0), x.size(1), 0, false, 0}};
  const auto layout = find_modulate_layout(tx, x);
  const bool apart = tx.size(0) == 1 || tx.stride(0) == tx.numel() / tx.size(0);
  STD_TORCH_CHECK(layout.has_value() && apart,
                  "modulate_tangents_: tx and x must both be contiguous or both channels last, and "
                  "probes follow one another; use modulate_tangents for others");
  return {tx, x, tx, layout.value()};
}

// `run(operands, s, ts, zero)` for modulate_tangents on any device.
template <class Run>
Tensor tangents(const char* name, const Tensor& tx, const Tensor& x, const Tensor& s,
                const Tensor& ts, const Run& run, bool in_place = false) {
  check(name, "tx", tx, x, s);
  check_same(tx, "tx", ts, "ts", name);
  STD_TORCH_CHECK(ts.dim() == 3 && ts.size(0) == tx.size(0) && ts.size(1) == tx.size(1) &&
                      ts.size(2) == tx.size(2),
                  name, ": ts must be [L, B, C] of tx ", shape_of(tx), ", got ", shape_of(ts));
  const Operands ready = in_place ? prepare_in_place(tx, x) : prepare(tx, x);
  const Tensor style = torch::stable::contiguous(s), tangent = torch::stable::contiguous(ts);
  for_type(tx, [&](auto zero) { run(ready, style, tangent, zero); });
  return ready.out;
}

// `run(operands, s, sums, zero)` for modulate_cotangents on any device.
template <class Run>
std::tuple<Tensor, Tensor> cotangents(const Tensor& u, const Tensor& x, const Tensor& s,
                                      const Run& run) {
  check("modulate_cotangents", "u", u, x, s);
  const Operands ready = prepare(u, x);
  const Tensor style = torch::stable::contiguous(s);
  const int64_t sizes[] = {u.size(0), u.size(1), u.size(2)};
  const Tensor sums = torch::stable::new_empty(u, {sizes, 3});
  for_type(u, [&](auto zero) { run(ready, style, sums, zero); });
  return {ready.out, sums};
}

const auto run_on_cpu = [](const Operands& o, const Tensor& s, const Tensor& ts, auto zero) {
  using T = decltype(zero);
  cpu::modulate_tangents<T>(input<T>(o.t), input<T>(o.x), input<T>(s), input<T>(ts),
                            output<T>(o.out), o.layout);
};

Tensor modulate_tangents_cpu(const Tensor& tx, const Tensor& x, const Tensor& s, const Tensor& ts) {
  return tangents("modulate_tangents", tx, x, s, ts, run_on_cpu);
}

void modulate_tangents_in_place_cpu(const Tensor& tx, const Tensor& x, const Tensor& s,
                                    const Tensor& ts) {
  tangents("modulate_tangents_", tx, x, s, ts, run_on_cpu, true);
}

std::tuple<Tensor, Tensor> modulate_cotangents_cpu(const Tensor& u, const Tensor& x,
                                                   const Tensor& s) {
  return cotangents(u, x, s, [](const Operands& o, const Tensor& s, const Tensor& sums, auto zero) {
    using T = decltype(zero);
    cpu::modulate_cotangents<T>(input<T>(o.t), input<T>(o.x), input<T>(s), output<T>(o.out),
                                output<T>(sums), o.layout);
  });
}

#ifdef POLARITY_WITH_CUDA
const auto run_on_cuda = [](const Operands& o, const Tensor& s, const Tensor& ts, auto zero) {
  using T = decltype(zero);
  cuda::modulate_tangents<T>(input<T>(o.t), input<T>(o.x), input<T>(s), input<T>(ts),
                             output<T>(o.out), o.layout,
                             current_cuda_stream(o.t.get_device_index()));
};

Tensor modulate_tangents_cuda(const Tensor& tx, const Tensor& x, const Tensor& s,
                              const Tensor& ts) {
  const torch::stable::accelerator::DeviceGuard guard(tx.get_device_index());
  return tangents("modulate_tangents", tx, x, s, ts, run_on_cuda);
}

void modulate_tangents_in_place_cuda(const Tensor& tx, const Tensor& x, const Tensor& s,
                                     const Tensor& ts) {
  const torch::stable::accelerator::DeviceGuard guard(tx.get_device_index());
  tangents("modulate_tangents_", tx, x, s, ts, run_on_cuda, true);
}

std::tuple<Tensor, Tensor> modulate_cotangents_cuda(const Tensor& u, const Tensor& x,
                                                    const Tensor& s) {
  const torch::stable::accelerator::DeviceGuard guard(u.get_device_index());
  return cotangents(u, x, s, [](const Operands& o, const Tensor& s, const Tensor& sums, auto zero) {
    using T = decltype(zero);
    cuda::modulate_cotangents<T>(input<T>(o.t), input<T>(o.x), input<T>(s), output<T>(o.out),
                                 output<T>(sums), o.layout,
                                 current_cuda_stream(o.t.get_device_index()));
  });
}
#endif

}  // namespace
}  // namespace polarity

STABLE_TORCH_LIBRARY_IMPL(polarity, CPU, m) {
  m.impl("modulate_tangents", TORCH_BOX(&polarity::modulate_tangents_cpu));
  m.impl("modulate_tangents_", TORCH_BOX(&polarity::modulate_tangents_in_place_cpu));
  m.impl("modulate_cotangents", TORCH_BOX(&polarity::modulate_cotangents_cpu));
}
#ifdef POLARITY_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(polarity, CUDA, m) {
  m.impl("modulate_tangents", TORCH_BOX(&polarity::modulate_tangents_cuda));
  m.impl("modulate_tangents_", TORCH_BOX(&polarity::modulate_tangents_in_place_cuda));
  m.impl("modulate_cotangents", TORCH_BOX(&polarity::modulate_cotangents_cuda));
}
#endif
