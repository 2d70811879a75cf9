// polarity_ext._C.arrays: one function for each kernel, called by polarity_ext/arrays.py.
#pragma once

#include <pybind11/pybind11.h>

namespace polarity {

void bind_arrays(pybind11::module_ m);

}  // namespace polarity
