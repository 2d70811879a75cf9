#include "array.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <numeric>

namespace polarity {
namespace py = pybind11;

namespace {

struct Borrowed {
  const dlpack::Tensor& tensor;
  bool read_only;
};

// What the capsule holds. It is borrowed, not consumed: its own destructor gives it back.
Borrowed borrow(const py::object& capsule, const std::string& label) {
  PyObject* const raw = capsule.ptr();
  if (PyCapsule_IsValid(raw, dlpack::kVersionedName)) {
    const auto* managed = static_cast<const dlpack::VersionedTensor*>(
        PyCapsule_GetPointer(raw, dlpack::kVersionedName));
    if (managed->major != dlpack::kMajorVersion) {
      throw py::buffer_error(label + " came as DLPack " + std::to_string(managed->major) +
                             "; this extension reads version 1");
    }
    return {managed->tensor, (managed->flags & dlpack::kReadOnly) != 0};
  }
  if (PyCapsule_IsValid(raw, dlpack::kLegacyName)) {
    return {
        static_cast<const dlpack::ManagedTensor*>(PyCapsule_GetPointer(raw, dlpack::kLegacyName))
            ->tensor,
        false};
  }
  throw py::type_error(label + ": __dlpack__ returned no unused DLPack capsule");
}

std::string describe(dlpack::DataType type) {
  constexpr const char* kCodes[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  const std::string code = type.code < 7 ? kCodes[type.code] : "type " + std::to_string(type.code);
  return code + std::to_string(type.bits) +
         (type.lanes == 1 ? "" : "x" + std::to_string(type.lanes));
}

int64_t bytes_of(Dtype dtype) { return dtype == Dtype::float32 ? 4 : 8; }

}  // namespace

const char* name_of(Dtype dtype) {
  return dtype == Dtype::float32 ? "float32" : dtype == Dtype::float64 ? "float64" : "int64";
}

std::string text_of(const Sizes& sizes) {
  std::string text = "[";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

Array::Array(std::string label, py::object object, py::object capsule)
    : label_(std::move(label)), object_(std::move(object)), capsule_(std::move(capsule)) {
  const auto [tensor, read_only] = borrow(capsule_, label_);
  const dlpack::DataType type = tensor.dtype;
  const bool is_int64 = type.code == dlpack::kInt && type.bits == 64;
  const bool is_float = type.code == dlpack::kFloat && (type.bits == 32 || type.bits == 64);
  if ((!is_float && !is_int64) || type.lanes != 1) {
    throw py::type_error(label_ + " is " + describe(type) +
                         "; it must be float32 or float64 (convert it with .astype())");
  }
  dtype_ = is_int64 ? Dtype::int64 : type.bits == 32 ? Dtype::float32 : Dtype::float64;
  device_ = tensor.device;
  read_only_ = read_only;
  data_ = static_cast<char*>(tensor.data) + tensor.byte_offset;
  sizes_.assign(tensor.shape, tensor.shape + tensor.ndim);
  if (tensor.strides != nullptr && count() > 0) {  // without elements they mean nothing
    strides_.assign(tensor.strides, tensor.strides + tensor.ndim);
  } else {
    strides_.assign(sizes_.size(), 1);
    for (size_t i = sizes_.size(); i-- > 1;) strides_[i - 1] = strides_[i] * sizes_[i];
  }
  check(reinterpret_cast<uintptr_t>(data_) % static_cast<uintptr_t>(bytes_of(dtype_)) == 0,
        "does not start at a multiple of its element size; copy it");
}

int64_t Array::count() const {
  return std::accumulate(sizes_.begin(), sizes_.end(), int64_t{1}, std::multiplies<>());
}

Sizes Array::memory_order() const {
  Sizes order(sizes_.size());
  std::iota(order.begin(), order.end(), 0);
  // An expanded dimension, of stride 0, has no place of its own: it comes first.
  const auto distance = [&](int64_t i) { return stride(i) == 0 ? INT64_MAX : std::abs(stride(i)); };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return distance(a) > distance(b); });
  return order;
}

bool Array::elements_are_apart() const {
  if (count() == 0) return true;
  const Sizes order = memory_order();
  int64_t span = 1;
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    if (size(*i) == 1) continue;
    if (std::abs(stride(*i)) < span) return false;
    span += (size(*i) - 1) * std::abs(stride(*i));
  }
  return true;
}

Array::Range Array::range() const {
  int64_t low = 0;
  int64_t high = 1;
  for (int64_t i = 0; i < dim(); ++i) {
    const int64_t reach = (size(i) - 1) * stride(i);
    (reach < 0 ? low : high) += reach;
  }
  const char* const first = static_cast<const char*>(data_);
  return {first + low * bytes_of(dtype_), first + high * bytes_of(dtype_)};
}

bool Array::shares_memory_with(const Array& other) const {
  if (count() == 0 || other.count() == 0) return false;
  const Range a = range();
  const Range b = other.range();
  return a.begin < b.end && b.begin < a.end;
}

bool Array::is_same_view_as(const Array& other) const {
  return data_ == other.data_ && dtype_ == other.dtype_ && sizes_ == other.sizes_ &&
         strides_ == other.strides_;
}

void Array::refuse(const std::string& message) const {
  throw py::value_error(label_ + " " + message);
}

void Array::check(bool fits, const std::string& message) const {
  if (!fits) refuse(message);
}

}  // namespace polarity
