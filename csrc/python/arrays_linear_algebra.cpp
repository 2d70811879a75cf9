// Batched matrices, for arrays of any library.
#include "arrays.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "../kernels/cholesky.h"
#include "../kernels/floored_log_sum.h"
#include "../kernels/gram.h"
#include "../kernels/jacobi_singular_values.h"
#include "../kernels/solve_triangular.h"
#include "../kernels/symmetric_eigenvalues.h"
#include "entry.h"

namespace py = pybind11;

namespace polarity {
namespace {

py::object gram(Call& call) {
  const Array y = call.input("y");
  y.check(y.dim() == 3, "must be [B, D, L], got " + text_of(y.sizes()));
  const GramShape shape{y.size(0), y.size(1), y.size(2), y.stride(0), y.stride(1), y.stride(2)};
  const Array out = call.output("out", Dtype::float64, {shape.batch, shape.cols, shape.cols});
  check_contiguous(out);
  const Array workspace = call.workspace(gram_workspace(shape, call.on_cuda()));
  call.run(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, gram<T>, y.data<T>(), shape, workspace.data<double>(),
                    out.data<double>());
  });
  return out.object();
}

py::object symmetric_eigenvalues(Call& call, std::optional<int64_t> top_k) {
  const Array a = call.input("a");
  a.check(a.dim() == 3 && a.size(1) == a.size(2), "must be [B, n, n], got " + text_of(a.sizes()));
  const int64_t size = a.size(1), count = top_k.value_or(size);
  const int64_t largest = call.on_cuda() ? cuda::kLargestSymmetric : cpu::kLargestSymmetric;
  a.check(size <= largest, "has n = " + std::to_string(size) + ", at most " +
                               std::to_string(largest) +
                               " is possible; use eigvalsh of its library");
  call.check(count >= 0 && count <= size,
             "top_k must be in 0..n = " + std::to_string(size) + ", got " + std::to_string(count));
  const SymmetricBatch shape{a.size(0), size, a.stride(0), a.stride(1), a.stride(2)};
  const Array out = call.output("out", a.dtype(), {shape.batch, count});
  check_contiguous(out);
#if POLARITY_HAS_CUDA
  if (call.on_cuda()) {
    const Array workspace = call.workspace(symmetric_workspace(shape));
    call.run(a.dtype(), [&](auto zero) {
      using T = decltype(zero);
      cuda::symmetric_eigenvalues<T>(a.data<T>(), shape, count, workspace.data<double>(),
                                     out.data<T>(), call.stream());
    });
    return out.object();
  }
#endif
  call.run(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    cpu::symmetric_eigenvalues<T>(a.data<T>(), shape, count, out.data<T>());
  });
  return out.object();
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

py::object floored_log_sum(Call& call, std::optional<int64_t> top_k) {
  const Array sigma = call.input("sigma");
  sigma.check(sigma.dtype() == Dtype::float64, "is float32; it must be float64");
  sigma.check(sigma.dim() == 2, "must be [B, n], got " + text_of(sigma.sizes()));
  const int64_t batch = sigma.size(0), count = sigma.size(1), summed = top_k.value_or(count);
  const Array floor = call.input("floor"), eta = call.input("eta"), delta = call.input("delta");
  for (const Array& one : {floor, eta}) {
    one.check(one.dim() == 1 && one.size(0) == batch,
              "must be [B] = [" + std::to_string(batch) + "], got " + text_of(one.sizes()));
    check_contiguous(one);
  }
  delta.check(
      delta.sizes() == sigma.sizes(),
      "must be [B, n] as sigma is, " + text_of(sigma.sizes()) + ", got " + text_of(delta.sizes()));
  call.check(summed >= 0 && summed <= count, "top_k must be in 0..n = " + std::to_string(count) +
                                                 ", got " + std::to_string(summed));
  const LogSumShape shape{batch,           count,           summed,         sigma.stride(0),
                          sigma.stride(1), delta.stride(0), delta.stride(1)};
  const Array value = call.output("out[0]", Dtype::float64, {batch});
  const Array error = call.output("out[1]", Dtype::float64, {batch});
  const Array rank = call.output("out[2]", Dtype::int64, {batch});
  for (const Array& one : {value, error, rank}) check_contiguous(one);
  call.run(Dtype::float64, [&](auto) {
    POLARITY_LAUNCH(call, floored_log_sum, sigma.data<double>(), floor.data<double>(),
                    eta.data<double>(), delta.data<double>(), shape, value.data<double>(),
                    error.data<double>(), rank.data<int64_t>());
  });
  return py::make_tuple(value.object(), error.object(), rank.object());
}

py::object jacobi_singular_values(Call& call, int64_t max_sweeps) {
  const Array a = call.input("a");
  a.check(a.dim() == 3 && a.size(1) >= a.size(2),
          "must be [B, m, n] with m >= n, got " + text_of(a.sizes()) +
              "; where m < n pass the transpose, which has the same singular values");
  a.check(a.size(2) <= kLargestJacobi, "has n = " + std::to_string(a.size(2)) +
                                           ", at most 128 is possible; use its library's svd");
  call.check(max_sweeps >= 1, "max_sweeps must be >= 1, got " + std::to_string(max_sweeps));
  const TallBatch shape{a.size(0), a.size(1), a.size(2), a.stride(0), a.stride(1), a.stride(2)};
  const Array values = call.output("out[0]", a.dtype(), {shape.batch, shape.columns});
  const Array info = call.output("out[1]", Dtype::int64, {shape.batch});
  check_contiguous(values);
  check_contiguous(info);
#if POLARITY_HAS_CUDA
  if (call.on_cuda()) {
    const Array workspace = call.workspace(jacobi_workspace(shape));
    call.run(a.dtype(), [&](auto zero) {
      using T = decltype(zero);
      cuda::jacobi_singular_values<T>(a.data<T>(), shape, max_sweeps, workspace.data<double>(),
                                      values.data<T>(), info.data<int64_t>(), call.stream());
    });
    return py::make_tuple(values.object(), info.object());
  }
#endif
  call.run(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    cpu::jacobi_singular_values<T>(a.data<T>(), shape, max_sweeps, values.data<T>(),
                                   info.data<int64_t>());
  });
  return py::make_tuple(values.object(), info.object());
}

py::object solve_triangular(Call& call) {
  const Array y = call.input("y"), r = call.input("r", Dtype::float64);
  y.check(y.dim() == 3, "must be [B, D, L], got " + text_of(y.sizes()));
  r.check(
      r.dim() == 3 && r.size(0) == y.size(0) && r.size(1) == y.size(2) && r.size(2) == y.size(2),
      "must be [B, L, L] for y " + text_of(y.sizes()) + ", got " + text_of(r.sizes()));
  y.check(y.size(2) <= kLargestTriangular,
          "has L = " + std::to_string(y.size(2)) + ", at most 384 is possible; use its library's");
  const TriangularShape shape{y.size(0),   y.size(1),   y.size(2),   y.stride(0), y.stride(1),
                              y.stride(2), r.stride(0), r.stride(1), r.stride(2)};
  const Array out = call.output("out", Dtype::float64, y.sizes());
  check_contiguous(out);
  call.run(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, solve_triangular<T>, y.data<T>(), r.data<double>(), shape,
                    out.data<double>());
  });
  return out.object();
}

}  // namespace

void bind_linear_algebra(py::module_ m) {
  m.def("gram", entry(gram));
  m.def("symmetric_eigenvalues", entry(symmetric_eigenvalues));
  m.def("cholesky", entry(cholesky));
  m.def("floored_log_sum", entry(floored_log_sum));
  m.def("jacobi_singular_values", entry(jacobi_singular_values));
  m.def("solve_triangular", entry(solve_triangular));
}

}  // namespace polarity
