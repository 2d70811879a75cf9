// Batched matrices, for arrays of any library.
#include "arrays.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "../kernels/cholesky.h"
#include "../kernels/gram.h"
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
  const Array workspace = call.workspace(gram_workspace(shape));
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

}  // namespace

void bind_linear_algebra(py::module_ m) {
  m.def("gram", entry(gram));
  m.def("symmetric_eigenvalues", entry(symmetric_eigenvalues));
  m.def("cholesky", entry(cholesky));
}

}  // namespace polarity
