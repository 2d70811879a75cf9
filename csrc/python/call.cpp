#include "call.h"

#include <numeric>

namespace polarity {
namespace py = pybind11;

namespace {

std::string text_of(dlpack::Device device) {
  return device.type == dlpack::kCpu ? "the CPU" : "cuda:" + std::to_string(device.index);
}

Sizes row_major(size_t dimensions) {
  Sizes order(dimensions);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

py::tuple tuple_of(const Sizes& sizes) {
  py::tuple made(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) made[i] = sizes[i];
  return made;
}

}  // namespace

Call::Call(py::object caller)
    : caller_(std::move(caller)), op_(caller_.attr("op").cast<std::string>()) {
  const auto device = caller_.attr("device").cast<py::tuple>();
  device_ = {device[0].cast<int32_t>(), device[1].cast<int32_t>()};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): Python passes the handle as a number
  stream_ = reinterpret_cast<void*>(caller_.attr("stream").cast<uintptr_t>());
  if (on_cuda() && !POLARITY_HAS_CUDA) {
    throw std::runtime_error(
        op_ + ": the arrays are on " + text_of(device_) +
        ", but this build has no CUDA kernels (" POLARITY_CUDA_REASON
        "); rebuild with POLARITY_WITH_CUDA=ON, or bring the arrays to the CPU");
  }
}

void Call::check(bool fits, const std::string& message) const {
  if (!fits) throw py::value_error(op_ + ": " + message);
}

Array Call::view(const std::string& name, const py::object& object) const {
  Array array(op_ + ": " + name, object, caller_.attr("capsule")(name, object));
  const dlpack::Device found = array.device();
  const bool same_kind = (found.type == dlpack::kCpu) == (device_.type == dlpack::kCpu);
  array.check(same_kind && (!on_cuda() || found.index == device_.index),
              "is on " + text_of(found) + ", but the call is on " + text_of(device_) +
                  "; bring all arrays to one device");
  return array;
}

Array Call::input(const char* name, std::optional<Dtype> wanted) {
  Array array = view(name, caller_.attr("inputs")[name]);
  if (array.dtype() == Dtype::int64) {
    throw py::type_error(op_ + ": " + name +
                         " is int64; it must be float32 or float64 (convert it with .astype())");
  }
  if (wanted) {
    array.check(array.dtype() == *wanted,
                std::string("is ") + name_of(array.dtype()) + "; it must be " + name_of(*wanted));
  } else if (!arguments_.empty()) {
    const Dtype first = arguments_.front().dtype();
    array.check(array.dtype() == first, std::string("is ") + name_of(array.dtype()) +
                                            "; it must be " + name_of(first) +
                                            ", as the arguments before it");
  }
  arguments_.push_back(array);
  return array;
}

Array Call::make(const std::string& name, Dtype dtype, const Sizes& sizes,
                 const Sizes& order) const {
  return view(name, caller_.attr("empty")(tuple_of(sizes), name_of(dtype), tuple_of(order)));
}

void Call::check_given(const Array& out, Dtype dtype, const Sizes& sizes,
                       const Array* in_place) const {
  out.check(!out.read_only(), "is read-only");
  out.check(out.dtype() == dtype,
            std::string("is ") + name_of(out.dtype()) + "; it must be " + name_of(dtype));
  out.check(out.sizes() == sizes, "has shape " + polarity::text_of(out.sizes()) + "; it must be " +
                                      polarity::text_of(sizes));
  out.check(out.elements_are_apart(),
            "has elements that share an address; use an array of its own");
  for (const Array& other : arguments_) {
    const bool meant =
        in_place != nullptr && out.is_same_view_as(*in_place) && other.is_same_view_as(*in_place);
    out.check(meant || !out.shares_memory_with(other),
              "shares memory with another argument; use an array of its own");
  }
}

Array Call::output(const char* name, Dtype dtype, const Sizes& sizes, const Array* in_place) {
  return output(name, dtype, sizes, row_major(sizes.size()), in_place);
}

Array Call::output(const char* name, Dtype dtype, const Sizes& sizes, const Sizes& order,
                   const Array* in_place) {
  const py::object given = caller_.attr("outputs")[name];
  if (given.is_none()) return make(name, dtype, sizes, order);
  Array out = view(name, given);
  check_given(out, dtype, sizes, in_place);
  arguments_.push_back(out);
  return out;
}

Array Call::output_like(const char* name, const Array& model, const Array* in_place) {
  return output(name, model.dtype(), model.sizes(), model.memory_order(), in_place);
}

Array Call::workspace(int64_t count) {
  return make("workspace", Dtype::float64, {count}, row_major(1));
}

}  // namespace polarity
