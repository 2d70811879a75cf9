// polarity_ext._C.arrays: the kernels for arrays of any library, by raw pointers: no torch header,
// no tensor. One function for each kernel, called by polarity_ext/arrays.py.
#pragma once

#include <pybind11/pybind11.h>

namespace polarity {

void bind_linear_algebra(pybind11::module_ m);
void bind_random(pybind11::module_ m);
void bind_tangents(pybind11::module_ m);

inline void bind_arrays(const pybind11::module_& m) {
  bind_linear_algebra(m);
  bind_random(m);
  bind_tangents(m);
}

}  // namespace polarity
