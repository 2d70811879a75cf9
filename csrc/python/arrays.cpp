// The kernels for arrays of any library, by raw pointers: no torch header, no tensor.
#include "arrays.h"

#include <pybind11/stl.h>

#include "../kernels/activation.h"
#include "../kernels/gaussian.h"
#include "../kernels/gram.h"
#include "../kernels/scale_tangents.h"
#include "../kernels/uniform.h"
#include "../torch/layout.h"
#include "call.h"

namespace py = pybind11;

namespace polarity {
namespace {

void check_stream_place(const Call& call, int64_t seed, int64_t offset) {
  call.check(seed >= 0, "seed must be >= 0, got " + std::to_string(seed));
  call.check(offset >= 0, "offset must be >= 0, got " + std::to_string(offset));
}

py::object gaussian(Call& call, int64_t seed, int64_t offset, const Sizes& shape) {
  check_stream_place(call, seed, offset);
  const Array out = call.output("out", Dtype::float32, shape);
  out.check(out.is_contiguous(), "must be contiguous");
  call.run(out.dtype(), [&](auto) {
    POLARITY_LAUNCH(call, gaussian, static_cast<uint64_t>(seed), static_cast<uint64_t>(offset),
                    out.data<float>(), out.count());
  });
  return out.object();
}

py::object uniform(Call& call, int64_t seed, int64_t offset, const Sizes& shape,
                   const std::string& dtype) {
  check_stream_place(call, seed, offset);
  call.check(dtype == "float32" || dtype == "float64",
             "dtype is '" + dtype + "'; it must be 'float32' or 'float64'");
  const Array out = call.output("out", dtype == "float32" ? Dtype::float32 : Dtype::float64, shape);
  out.check(out.is_contiguous(), "must be contiguous");
  call.run(out.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, uniform<T>, static_cast<uint64_t>(seed), static_cast<uint64_t>(offset),
                    out.data<T>(), out.count());
  });
  return out.object();
}

py::object gram(Call& call) {
  const Array y = call.input("y");
  y.check(y.dim() == 3, "must be [B, D, L], got " + text_of(y.sizes()));
  const GramShape shape{y.size(0), y.size(1), y.size(2), y.stride(0), y.stride(1), y.stride(2)};
  const Array out = call.output("out", Dtype::float64, {shape.batch, shape.cols, shape.cols});
  out.check(out.is_contiguous(), "must be contiguous");
  const Array workspace = call.workspace(gram_workspace(shape));
  call.run(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, gram<T>, y.data<T>(), shape, workspace.data<double>(),
                    out.data<double>());
  });
  return out.object();
}

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

// What Python calls: op(caller, parameters...).
template <class... Parameters>
auto entry(py::object (*op)(Call&, Parameters...)) {
  return [op](const py::object& caller, Parameters... parameters) {
    Call call(caller);
    return op(call, parameters...);
  };
}

}  // namespace

void bind_arrays(py::module_ m) {
  m.def("gaussian", entry(gaussian));
  m.def("uniform", entry(uniform));
  m.def("gram", entry(gram));
  m.def("scale_tangents", entry(scale_tangents));
  m.def("activation", entry(activation));
}

}  // namespace polarity
