// An array of any library as a kernel sees it: where its numbers are and how they lie. Nothing is
// copied; the DLPack capsule keeps the memory alive as long as the Array is.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "dlpack.h"

namespace polarity {

enum class Dtype { float32, float64, int64 };
const char* name_of(Dtype dtype);

using Sizes = std::vector<int64_t>;
std::string text_of(const Sizes& sizes);  // "[2, 3]"

class Array {
 public:
  // label: how errors name it, "gram: y". Throws where the numbers have another type
  // than these.
  Array(std::string label, pybind11::object object, pybind11::object capsule);

  int64_t dim() const { return static_cast<int64_t>(sizes_.size()); }
  int64_t size(int64_t i) const { return sizes_[static_cast<size_t>(i)]; }
  int64_t stride(int64_t i) const { return strides_[static_cast<size_t>(i)]; }
  int64_t count() const;
  const Sizes& sizes() const { return sizes_; }
  Dtype dtype() const { return dtype_; }
  dlpack::Device device() const { return device_; }
  bool read_only() const { return read_only_; }
  const pybind11::object& object() const { return object_; }

  template <typename T>
  T* data() const {
    return static_cast<T*>(data_);
  }

  // Dimensions from the outermost in memory to the innermost; expanded ones in front.
  Sizes memory_order() const;
  // No two elements have the same address (sufficient: each stride passes over the smaller ones).
  bool elements_are_apart() const;
  bool shares_memory_with(const Array& other) const;
  bool is_same_view_as(const Array& other) const;

  // Throws ValueError "<label> <message>"; `check` does unless `fits`.
  [[noreturn]] void refuse(const std::string& message) const;
  void check(bool fits, const std::string& message) const;

 private:
  struct Range {
    const char *begin, *end;
  };
  Range range() const;

  std::string label_;
  pybind11::object object_, capsule_;
  void* data_;
  Dtype dtype_;
  dlpack::Device device_;
  bool read_only_ = false;  // as far as the capsule says: before DLPack 1.0 none did
  Sizes sizes_, strides_;   // strides in elements
};

}  // namespace polarity
