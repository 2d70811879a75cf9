// Random numbers and draws, for arrays of any library.
#include "arrays.h"

#include <pybind11/stl.h>

#include <string>

#include "../kernels/gaussian.h"
#include "../kernels/gaussian_product.h"
#include "../kernels/uniform.h"
#include "../kernels/weighted_draw.h"
#include "entry.h"

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
  check_contiguous(out);
  call.run(out.dtype(), [&](auto) {
    POLARITY_LAUNCH(call, gaussian, static_cast<uint64_t>(seed), static_cast<uint64_t>(offset),
                    out.data<float>(), out.count());
  });
  return out.object();
}

py::object gaussian_product(Call& call, int64_t count, int64_t seed, int64_t offset) {
  check_stream_place(call, seed, offset);
  call.check(count >= 0, "rows must be >= 0, got " + std::to_string(count));
  const Array y = call.input("y");
  y.check(y.dim() == 3, "must be [B, D, L], got " + text_of(y.sizes()));
  const GramShape shape{y.size(0), y.size(1), y.size(2), y.stride(0), y.stride(1), y.stride(2)};
  const GaussianRows rows{static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), count};
  const Array out = call.output("out", Dtype::float64, {shape.batch, count, shape.cols});
  check_contiguous(out);
  call.run(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    POLARITY_LAUNCH(call, gaussian_product<T>, y.data<T>(), shape, rows, out.data<double>());
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

}  // namespace

void bind_random(py::module_ m) {
  m.def("gaussian", entry(gaussian));
  m.def("gaussian_product", entry(gaussian_product));
  m.def("uniform", entry(uniform));
  m.def("weighted_draw", entry(weighted_draw));
}

}  // namespace polarity
