// Every schema of the extension, and nothing else. Implementations register themselves beside
// their wrappers in <op>.cpp; fake, autograd and vmap rules are in polarity_ext/ops/<op>.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(polarity, m) {
  m.def("cholesky(Tensor a) -> (Tensor, Tensor)");
  m.def("jacobi_singular_values(Tensor a, int max_sweeps) -> (Tensor, Tensor)");
  m.def("weighted_draw(Tensor log_weights, int n, int seed, int offset) -> (Tensor, Tensor)");
  m.def(
      "floored_log_sum(Tensor sigma, Tensor floor, Tensor eta, Tensor delta, int top_k) -> "
      "(Tensor, "
      "Tensor, Tensor)");
  m.def("gaussian_(Tensor(a!) out, int seed, int offset) -> ()");
  m.def("gaussian_product(Tensor y, int rows, int seed, int offset) -> Tensor");
  m.def("uniform_(Tensor(a!) out, int seed, int offset) -> ()");
  m.def("gram(Tensor y) -> Tensor");
  m.def("layer_gram(Tensor x, Tensor weight, Tensor factor) -> (Tensor, Tensor)");
  m.def("normalize_tangents(Tensor t, Tensor xhat, Tensor r, bool center) -> Tensor");
  m.def("scale_tangents(Tensor t, Tensor d) -> Tensor");
  m.def("rectify(Tensor x, float slope) -> (Tensor, Tensor)");
  m.def("mask_tangents(Tensor t, Tensor bits, float low, float high) -> Tensor");
  m.def("mask_tangents_(Tensor(a!) t, Tensor bits, float low, float high) -> ()");
  m.def("scale_tangents_(Tensor(a!) t, Tensor d) -> ()");
  m.def("solve_triangular(Tensor y, Tensor r) -> Tensor");
  m.def("symmetric_eigenvalues(Tensor a, int top_k) -> Tensor");
  m.def("activation(Tensor x, int kind, float alpha) -> (Tensor, Tensor)");
  m.def("softmax_tangents(Tensor t, Tensor y) -> Tensor");
  m.def("mlp_tangents(Tensor v, Tensor[] weights, Tensor[] factors, bool adjoint) -> Tensor");
  m.def("mlp_gram(Tensor v, Tensor[] weights, Tensor[] factors) -> (Tensor, Tensor)");
  m.def("modulate_tangents(Tensor tx, Tensor x, Tensor s, Tensor ts) -> Tensor");
  m.def("modulate_tangents_(Tensor(a!) tx, Tensor x, Tensor s, Tensor ts) -> ()");
  m.def("modulate_cotangents(Tensor u, Tensor x, Tensor s) -> (Tensor, Tensor)");
  m.def("upfirdn2d(Tensor x, Tensor f, int[] up, int[] down, int[] padding) -> Tensor");
  m.def(
      "convolve_to_few(Tensor x, Tensor weight, int stride, int[] padding, int[] size, Tensor? "
      "factor=None) -> Tensor");
  m.def(
      "winograd(Tensor x, Tensor weight, int kernel, int stride, int[] padding, int[] size, bool "
      "transposed, Tensor? bits=None, float low=0.0, float high=1.0) -> Tensor");
  m.def(
      "convolution_chain(Tensor x, Tensor[] weights, Tensor[] factors, int[] settings, float[] "
      "slopes) -> Tensor");
  m.def(
      "active_convolutions(Tensor x, Tensor[] weights, Tensor[] factors, int[] settings, float[] "
      "slopes, int[] orders, bool channels_last) -> Tensor");
  m.def("linear_tangents(Tensor t, Tensor weight, Tensor d, int precision) -> Tensor");
}
