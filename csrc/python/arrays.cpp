// The kernels for arrays of any library, by raw pointers: no torch header, no tensor.
#include "arrays.h"

#include <pybind11/stl.h>

#include "../kernels/activation.h"
#include "../kernels/cholesky.h"
#include "../kernels/gaussian.h"
#include "../kernels/gram.h"
#include "../kernels/normalize_tangents.h"
#include "../kernels/scale_tangents.h"
#include "../kernels/softmax_tangents.h"
#include "../kernels/symmetric_eigenvalues.h"
#include "../kernels/uniform.h"
#include "../kernels/weighted_draw.h"
#include "../torch/group_layout.h"
#include "../torch/layout.h"
#include "call.h"

namespace py = pybind11;

namespace polarity {
namespace {

void check_stream_place(const Call& call, int64_t seed, int64_t offset) {
  call.check(seed >= 0, "seed must be >= 0, got " + std::to_string(seed));
  call.check(offset >= 0, "offset must be >= 0, got " + std::to_string(offset));
}

void check_contiguous(const Array& out) {
  out.check(is_contiguous_from(out, 0), "must be contiguous");
}

py::object gaussian(Call& call, int64_t seed, int64_t offset, const Sizes& shape) {
  check_stream_place(call, seed, offset);
  const Array out = call.output("out", Dtype::float32, shape);
  check_contiguous(out);
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
  check_contiguous(out);
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
  check_contiguous(out);
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

py::object symmetric_eigenvalues(Call& call, std::optional<int64_t> top_k) {
  const Array a = call.input("a");
  a.check(a.dim() == 3 && a.size(1) == a.size(2), "must be [B, n, n], got " + text_of(a.sizes()));
  const int64_t size = a.size(1), count = top_k.value_or(size);
  a.check(size <= kLargestSymmetric, "has n = " + std::to_string(size) +
                                         ", at most 128 is possible; use eigvalsh of its library");
  call.check(count >= 0 && count <= size,
             "top_k must be in 0..n = " + std::to_string(size) + ", got " + std::to_string(count));
  const SymmetricBatch shape{a.size(0), size, a.stride(0), a.stride(1), a.stride(2)};
  const Array out = call.output("out", a.dtype(), {shape.batch, count});
  check_contiguous(out);
  call.run(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, symmetric_eigenvalues<T>, a.data<T>(), shape, count, out.data<T>());
  });
  return out.object();
}

py::object weighted_draw(Call& call, int64_t n, int64_t seed, int64_t offset) {
  check_stream_place(call, seed, offset);
  const Array log_weights = call.input("log_weights");
  log_weights.check(log_weights.dtype() == Dtype::float64, "is float32; it must be float64");
  log_weights.check(log_weights.dim() == 1, "must be [N], got " + text_of(log_weights.sizes()));
  check_contiguous(log_weights);
  const DrawShape shape{log_weights.count(), n, static_cast<uint64_t>(seed),
                        static_cast<uint64_t>(offset)};
  call.check(n >= 0 && n <= shape.count, "n must be in 0..N = " + std::to_string(shape.count) +
                                             ", got " + std::to_string(n) +
                                             "; a row is drawn once at most");
  const Array rows = call.output("out[0]", Dtype::int64, {n});
  const Array status = call.output("out[1]", Dtype::int64, {2});
  check_contiguous(rows);
  check_contiguous(status);
#if POLARITY_HAS_CUDA
  if (call.on_cuda()) {
    const Array workspace = call.workspace(draw_workspace(shape));
    call.run(Dtype::float64, [&](auto) {
      cuda::weighted_draw(log_weights.data<double>(), shape, workspace.data<uint64_t>(),
                          rows.data<int64_t>(), status.data<DrawStatus>(), call.stream());
    });
    return py::make_tuple(rows.object(), status.object());
  }
#endif
  call.run(Dtype::float64, [&](auto) {
    cpu::weighted_draw(log_weights.data<double>(), shape, rows.data<int64_t>(),
                       status.data<DrawStatus>());
  });
  return py::make_tuple(rows.object(), status.object());
}

py::object cholesky(Call& call) {
  const Array a = call.input("a");
  a.check(a.dim() == 3 && a.size(1) == a.size(2), "must be [B, n, n], got " + text_of(a.sizes()));
  a.check(a.size(1) <= kLargestCholesky,
          "has n = " + std::to_string(a.size(1)) + ", at most 512 is possible; use its library's");
  const SymmetricBatch shape{a.size(0), a.size(1), a.stride(0), a.stride(1), a.stride(2)};
  const Array l = call.output("out[0]", a.dtype(), a.sizes());
  const Array info = call.output("out[1]", Dtype::int64, {shape.batch});
  check_contiguous(l);
  check_contiguous(info);
#if POLARITY_HAS_CUDA
  if (call.on_cuda()) {
    const Array workspace = call.workspace(cholesky_workspace(shape));
    call.run(a.dtype(), [&](auto zero) {
      using T = decltype(zero);
      cuda::cholesky<T>(a.data<T>(), shape, workspace.data<double>(), l.data<T>(),
                        info.data<int64_t>(), call.stream());
    });
    return py::make_tuple(l.object(), info.object());
  }
#endif
  call.run(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    cpu::cholesky<T>(a.data<T>(), shape, l.data<T>(), info.data<int64_t>());
  });
  return py::make_tuple(l.object(), info.object());
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
  m.def("normalize_tangents", entry(normalize_tangents));
  m.def("softmax_tangents", entry(softmax_tangents));
  m.def("symmetric_eigenvalues", entry(symmetric_eigenvalues));
  m.def("weighted_draw", entry(weighted_draw));
  m.def("cholesky", entry(cholesky));
}

}  // namespace polarity
