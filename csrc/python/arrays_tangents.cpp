// Stages of a tangent program, for arrays of any library.
#include "arrays.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>

#include "../kernels/activation.h"
#include "../kernels/convolve_to_few.h"
#include "../kernels/modulate_tangents.h"
#include "../kernels/normalize_tangents.h"
#include "../kernels/scale_tangents.h"
#include "../kernels/softmax_tangents.h"
#include "../kernels/upfirdn2d.h"
#include "../torch/fir_layout.h"
#include "../torch/group_layout.h"
#include "../torch/modulate_layout.h"
#include "entry.h"

namespace py = pybind11;

namespace polarity {
namespace {

py::object scale_tangents(Call& call) {
  const Array t = call.input("t");
  const Array d = call.input("d");
  t.check(t.dim() >= 2 && d.sizes() == Sizes(t.sizes().begin() + 1, t.sizes().end()),
          "must be [L, B, *] and d [B, *], got t " + text_of(t.sizes()) + " and d " +
              text_of(d.sizes()));
  t.check(is_dense_from(t, 2), "has a t[l, b] with gaps; make it contiguous");
  d.check(same_order(t, 2, d, 1),
          "has its d[b] in another memory order than t[l, b]; give both one");
  const Array out = call.output_like("out", t, &t);
  out.check(same_order(t, 2, out, 2), "has its out[l, b] in another memory order than t[l, b]");
  const int64_t samples = t.size(0) * t.size(1);
  const TangentLayout layout{t.size(0),     t.size(1),   samples ? t.count() / samples : 0,
                             t.stride(0),   t.stride(1), out.stride(0),
                             out.stride(1), d.stride(0)};
  call.run(t.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, scale_tangents<T>, t.data<T>(), d.data<T>(), out.data<T>(), layout);
  });
  return out.object();
}

py::object activation(Call& call, int64_t kind, double alpha) {
  const Array x = call.input("x");
  x.check(is_dense_from(x, 0), "has gaps between its elements; make it contiguous");
  const Array y = call.output_like("out[0]", x);
  y.check(same_order(x, 0, y, 0), "must be laid out like x");
  const Array derivative = call.output_like("out[1]", x);
  derivative.check(same_order(x, 0, derivative, 0), "must be laid out like x");
  call.run(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, activation<T>, static_cast<Activation>(kind), static_cast<T>(alpha),
                    x.data<T>(), y.data<T>(), derivative.data<T>(), x.count());
  });
  return py::make_tuple(y.object(), derivative.object());
}

py::object normalize_tangents(Call& call, bool center) {
  const Array t = call.input("t");
  const Array xhat = call.input("xhat");
  const Array r = call.input("r");
  bool match = t.dim() == xhat.dim() + 1 && r.dim() == xhat.dim();
  for (int64_t i = 0; match && i < xhat.dim(); ++i) {
    match = t.size(i + 1) == xhat.size(i) && (r.size(i) == xhat.size(i) || r.size(i) == 1);
  }
  t.check(match, "must be [L, *], xhat [*] and r [*] with size 1 where a group extends, got t " +
                     text_of(t.sizes()) + ", xhat " + text_of(xhat.sizes()) + " and r " +
                     text_of(r.sizes()));
  const std::optional<GroupLayout> layout = t.count() ? find_layout(t, xhat, r) : GroupLayout{};
  t.check(
      layout.has_value(),
      "lies in another memory order than xhat and r, has gaps, or its groups extend in more than"
      " two separate runs of dimensions; make all three contiguous, or permute them together");
  const Array out = call.output_like("out", t);
  out.check(same_order(t, 1, out, 1) && (t.size(0) < 2 || out.stride(0) == t.count() / t.size(0)),
            "must have its out[l] in memory as t[l], one after the other");
  call.run(t.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, normalize_tangents<T>, t.data<T>(), xhat.data<T>(), r.data<T>(), center,
                    out.data<T>(), *layout);
  });
  return out.object();
}

py::object softmax_tangents(Call& call) {
  const Array t = call.input("t");
  const Array y = call.input("y");
  t.check(y.dim() >= 1 && t.dim() == y.dim() + 1 &&
              y.sizes() == Sizes(t.sizes().begin() + 1, t.sizes().end()),
          "must be [L, *, N] and y [*, N], got t " + text_of(t.sizes()) + " and y " +
              text_of(y.sizes()));
  t.check(is_contiguous_from(t, 1), "has a t[l] that is not contiguous; make it contiguous");
  y.check(is_contiguous_from(y, 0), "is not contiguous; make it contiguous");
  const Array out = call.output("out", t.dtype(), t.sizes());
  check_contiguous(out);
  const int64_t size = y.size(y.dim() - 1);
  const RowLayout layout{t.size(0), size ? y.count() / size : 0, size, t.stride(0)};
  call.run(t.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, softmax_tangents<T>, t.data<T>(), y.data<T>(), out.data<T>(), layout);
  });
  return out.object();
}

void check_modulated(const Array& t, const char* argument, const Array& x, const Array& s) {
  t.check(x.dim() >= 2 && t.dim() == x.dim() + 1 &&
              x.sizes() == Sizes(t.sizes().begin() + 1, t.sizes().end()) &&
              s.sizes() == Sizes(x.sizes().begin(), x.sizes().begin() + 2),
          std::string("must be [L, B, C, *], x [B, C, *] and s [B, C], got ") + argument + " " +
              text_of(t.sizes()) + ", x " + text_of(x.sizes()) + " and s " + text_of(s.sizes()));
  s.check(is_contiguous_from(s, 0), "is not contiguous; make it contiguous");
}

ModulateLayout modulate_layout(const Array& t, const Array& x, const Array& out) {
  if (t.count() == 0) return {t.size(0), x.size(0), x.size(1), 0, false, 0};
  const std::optional<ModulateLayout> layout = find_modulate_layout(t, x);
  if (!layout)
    t.refuse("and x are not both contiguous or both channels last; make them so together");
  out.check(same_order(t, 1, out, 1) && (t.size(0) < 2 || out.stride(0) == t.count() / t.size(0)),
            "must have its out[l] in memory as the tangents' [l], one after the other");
  return *layout;
}

py::object modulate_tangents(Call& call) {
  const Array tx = call.input("tx");
  const Array x = call.input("x");
  const Array s = call.input("s");
  const Array ts = call.input("ts");
  check_modulated(tx, "tx", x, s);
  ts.check(ts.sizes() == Sizes(tx.sizes().begin(), tx.sizes().begin() + 3),
           "must be [L, B, C] of tx " + text_of(tx.sizes()) + ", got " + text_of(ts.sizes()));
  ts.check(is_contiguous_from(ts, 0), "is not contiguous; make it contiguous");
  const Array out = call.output_like("out", tx);
  const ModulateLayout layout = modulate_layout(tx, x, out);
  call.run(tx.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, modulate_tangents<T>, tx.data<T>(), x.data<T>(), s.data<T>(),
                    ts.data<T>(), out.data<T>(), layout);
  });
  return out.object();
}

py::object modulate_cotangents(Call& call) {
  const Array u = call.input("u");
  const Array x = call.input("x");
  const Array s = call.input("s");
  check_modulated(u, "u", x, s);
  const Array out = call.output_like("out[0]", u);
  const Array sums =
      call.output("out[1]", u.dtype(), Sizes(u.sizes().begin(), u.sizes().begin() + 3));
  check_contiguous(sums);
  const ModulateLayout layout = modulate_layout(u, x, out);
  call.run(u.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, modulate_cotangents<T>, u.data<T>(), x.data<T>(), s.data<T>(),
                    out.data<T>(), sums.data<T>(), layout);
  });
  return py::make_tuple(out.object(), sums.object());
}

py::object upfirdn2d(Call& call, const Sizes& up, const Sizes& down, const Sizes& padding) {
  const Array x = call.input("x");
  const Array g = call.input("g");
  x.check(x.dim() == 4, "must be [N, C, H, W], got " + text_of(x.sizes()));
  g.check(g.dim() == 2 && g.count() > 0,
          "must be [taps of y, taps of x], got " + text_of(g.sizes()));
  g.check(is_contiguous_from(g, 0), "is not contiguous; make it contiguous");
  call.check(up.size() == 2 && down.size() == 2 && padding.size() == 4,
             "up and down must be (x, y) and padding (left, right, top, bottom)");
  call.check(
      std::min({up[0], up[1], down[0], down[1]}) >= 1,
      "up and down must be at least 1, got up " + text_of(up) + " and down " + text_of(down));
  const auto axis = [&](size_t i, int64_t in, int64_t taps) {  // 0: x, 1: y
    const int64_t* pad = padding.data() + 2 * i;
    g.check(fir_room(in, taps, up[i], pad) >= 0,
            "has " + std::to_string(taps) + " taps along " + (i ? "y" : "x") +
                ", more than the padded x has numbers; pad more");
    return fir_axis(in, taps, up[i], down[i], pad);
  };
  const bool last = is_channels_last(x);
  x.check(last || is_contiguous_from(x, 0), "is neither contiguous nor channels last; make it so");
  const FirShape shape{x.size(0), x.size(1), last, axis(1, x.size(2), g.size(0)),
                       axis(0, x.size(3), g.size(1))};
  const Array out =
      call.output("out", x.dtype(), {shape.images, shape.channels, shape.y.out, shape.x.out},
                  last ? Sizes{0, 2, 3, 1} : Sizes{0, 1, 2, 3});
  out.check(last ? is_channels_last(out) : is_contiguous_from(out, 0),
            "must be laid out like x: contiguous, or channels last");
  call.run(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, upfirdn2d<T>, x.data<T>(), g.data<T>(), out.data<T>(), shape);
  });
  return out.object();
}

py::object convolve_to_few(Call& call, int64_t stride, const Sizes& padding, const Sizes& size) {
  const Array x = call.input("x");
  const Array weight = call.input("weight");
  const int64_t leading = x.dim() - 3;
  x.check(leading >= 1, "must be [*, N, C, H, W], got " + text_of(x.sizes()));
  const bool last = is_channels_last(x);
  x.check(last || is_contiguous_from(x, 0), "is neither contiguous nor channels last; make it so");
  weight.check(
      weight.dim() == 4 && weight.size(0) == x.size(leading) && weight.size(2) > 0 &&
          weight.size(3) > 0,
      "must be [C, O, k, l] for x " + text_of(x.sizes()) + ", got " + text_of(weight.sizes()));
  weight.check(is_contiguous_from(weight, 0), "is not contiguous; make it contiguous");
  call.check(stride >= 1, "stride must be at least 1, got " + std::to_string(stride));
  call.check(size.size() == 2 && padding.size() == 2 &&
                 std::min({size[0], size[1], padding[0], padding[1]}) >= 0,
             "size and padding must be (y, x) and not negative, got size " + text_of(size) +
                 " and padding " + text_of(padding));
  Sizes sizes(x.sizes().begin(), x.sizes().begin() + leading);
  int64_t images = 1;
  for (const int64_t count : sizes) images *= count;
  const FewShape shape{images,
                       x.size(leading),
                       weight.size(1),
                       stride,
                       last,
                       {x.size(leading + 1), size[0], weight.size(2), padding[0]},
                       {x.size(leading + 2), size[1], weight.size(3), padding[1]}};
  sizes.insert(sizes.end(), {shape.out_channels, size[0], size[1]});
  const Array out = call.output("out", x.dtype(), sizes);
  out.check(is_contiguous_from(out, 0), "is not contiguous; give one that is");
  call.run(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr FewFactor<T> kNothing{nullptr, 0};
    POLARITY_LAUNCH(call, convolve_to_few<T>, x.data<T>(), weight.data<T>(), out.data<T>(), shape,
                    kNothing);
  });
  return out.object();
}

}  // namespace

void bind_tangents(py::module_ m) {
  m.def("scale_tangents", entry(scale_tangents));
  m.def("activation", entry(activation));
  m.def("normalize_tangents", entry(normalize_tangents));
  m.def("softmax_tangents", entry(softmax_tangents));
  m.def("modulate_tangents", entry(modulate_tangents));
  m.def("modulate_cotangents", entry(modulate_cotangents));
  m.def("upfirdn2d", entry(upfirdn2d));
  m.def("convolve_to_few", entry(convolve_to_few));
}

}  // namespace polarity
