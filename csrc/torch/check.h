// What every op wrapper does before it calls a kernel: check arguments, find the stream.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/device.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <string>

#include "layout.h"

namespace polarity {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_of(const Tensor& tensor) {
  std::string text = "[";
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    text += (i ? ", " : "") + std::to_string(tensor.size(i));
  }
  return text + "]";
}

inline void check_floating(const Tensor& tensor, const char* op, const char* name) {
  const ScalarType type = tensor.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, op, ": ", name, " is ",
                  type, "; it must be float32 or float64 (convert it with .float() or .double())");
}

inline void check_same(const Tensor& a, const char* a_name, const Tensor& b, const char* b_name,
                       const char* op) {
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type(), op, ": ", a_name, " is ", a.scalar_type(),
                  " and ", b_name, " is ", b.scalar_type(), "; convert one to the other's dtype");
  STD_TORCH_CHECK(a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index(), op,
                  ": ", a_name, " and ", b_name, " are on different devices; move one with .to()");
}

template <typename T>
const T* input(const Tensor& tensor) {
  return static_cast<const T*>(tensor.data_ptr());
}

template <typename T>
T* output(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// The tensor itself where it is contiguous: torch would look its operator up by name to find out.
inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// Calls body(T()) with the C++ type of a checked tensor.
template <class Body>
void for_type(const Tensor& tensor, const Body& body) {
  if (tensor.scalar_type() == ScalarType::Float) {
    body(float());
  } else {
    body(double());
  }
}

#ifdef POLARITY_WITH_CUDA
// torch's current stream on a device, as a cudaStream_t. Looked up at run time, because this
// library must also load where torch has no CUDA.
void* current_cuda_stream(int32_t device_index);
#endif

}  // namespace polarity
