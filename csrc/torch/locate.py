"""Prints, as a CMake list, where torch is, which version it has, and where pybind11's headers are.

Torch is found, not imported: the build then needs neither two seconds nor a working CUDA driver.
"""

import importlib.metadata
import importlib.util

import pybind11

torch = importlib.util.find_spec("torch")
assert torch is not None
assert torch.submodule_search_locations
version = importlib.metadata.version("torch").split("+")[0]
print(torch.submodule_search_locations[0], version, pybind11.get_include(), sep=";")
