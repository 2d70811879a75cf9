// What the entry points of polarity_ext._C.arrays have in common.
#pragma once

#include "../torch/layout.h"
#include "call.h"

namespace polarity {

inline void check_contiguous(const Array& out) {
  out.check(is_contiguous_from(out, 0), "must be contiguous");
}

// What Python calls: op(caller, parameters...).
template <class... Parameters>
auto entry(pybind11::object (*op)(Call&, Parameters...)) {
  return [op](const pybind11::object& caller, Parameters... parameters) {
    Call call(caller);
    return op(call, parameters...);
  };
}

}  // namespace polarity
