// One call of an entry point: its arguments by name, its results, and where its kernel runs.
// polarity_ext/caller.py is the other half: it knows the libraries that arrays come from.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "array.h"
#include "build_info.h"

#if POLARITY_HAS_CUDA
#include "current_device.h"
// Calls cpu::kernel or cuda::kernel, the latter on the caller's stream.
#define POLARITY_LAUNCH(call, kernel, ...) \
  ((call).on_cuda() ? cuda::kernel(__VA_ARGS__, (call).stream()) : cpu::kernel(__VA_ARGS__))
#else
#define POLARITY_LAUNCH(call, kernel, ...) cpu::kernel(__VA_ARGS__)
#endif

namespace polarity {

class Call {
 public:
  explicit Call(pybind11::object caller);

  // An argument that is read: on the caller's device, and of the dtype asked for, which is by
  // default that of the inputs before it.
  Array input(const char* name, std::optional<Dtype> wanted = std::nullopt);

  // What is written: the array given under this name, which must fit, or new memory of the
  // caller's library. It shares memory with no other argument, but may be `in_place` itself.
  Array output(const char* name, Dtype dtype, const Sizes& sizes, const Array* in_place = nullptr);
  // The same; new memory has its dimensions in `order`, from the outermost to the innermost.
  Array output(const char* name, Dtype dtype, const Sizes& sizes, const Sizes& order,
               const Array* in_place = nullptr);
  // The same, with dtype and sizes of `model`; new memory is also laid out like it.
  Array output_like(const char* name, const Array& model, const Array* in_place = nullptr);
  // Doubles that only the kernel sees.
  Array workspace(int64_t count);

  // Throws ValueError "<op>: <message>" unless `fits`.
  void check(bool fits, const std::string& message) const;

  bool on_cuda() const { return device_.type != dlpack::kCpu; }
  void* stream() const { return stream_; }

  // body(T()) with the C++ type of `dtype`, without the interpreter's lock, on the right device.
  template <class Body>
  void run(Dtype dtype, const Body& body) const {
    const pybind11::gil_scoped_release release;
#if POLARITY_HAS_CUDA
    std::optional<CurrentDevice> guard;
    if (on_cuda()) guard.emplace(device_.index);
#endif
    if (dtype == Dtype::float32) {
      body(float());
    } else {
      body(double());
    }
  }

 private:
  Array view(const std::string& name, const pybind11::object& object) const;
  Array make(const std::string& name, Dtype dtype, const Sizes& sizes, const Sizes& order) const;
  void check_given(const Array& out, Dtype dtype, const Sizes& sizes, const Array* in_place) const;

  pybind11::object caller_;
  std::string op_;
  dlpack::Device device_;
  void* stream_;
  std::vector<Array> arguments_;  // so far, inputs first
};

}  // namespace polarity
