// The pybind11 side: what was built. No torch header here: torch's bundled pybind11 and the
// stable ABI's version macros do not mix, and nothing below needs a tensor.
#include <pybind11/pybind11.h>

#include <string>

#include "../kernels/cpu_isa.h"
#include "../python/arrays.h"
#include "build_info.h"

namespace py = pybind11;
namespace cpu = polarity::cpu;

namespace {

struct KernelRow {
  const char* name;
  const char* dtypes;
  bool has_cuda = true;
};

// Every kernel has a CPU backend; most have CUDA beside it where the build has CUDA.
constexpr KernelRow kKernels[] = {
    {"gaussian", "float32"},
    {"uniform", "float32 float64"},
    {"gram", "float32 float64"},
    {"layer_gram", "float32 float64"},
    {"scale_tangents", "float32 float64"},
    {"rectify", "float32 float64"},
    {"mask_tangents", "float32 float64"},
    {"activation", "float32 float64"},
    {"normalize_tangents", "float32 float64"},
    {"softmax_tangents", "float32 float64"},
    {"symmetric_eigenvalues", "float32 float64"},
    {"weighted_draw", "float64"},
    {"cholesky", "float32 float64"},
    {"floored_log_sum", "float64"},
    {"gaussian_product", "float32 float64"},
    {"jacobi_singular_values", "float32 float64"},
    {"solve_triangular", "float32 float64"},
    {"mlp_tangents", "float32 float64"},
    {"modulate_tangents", "float32 float64"},
    {"modulate_cotangents", "float32 float64"},
    {"upfirdn2d", "float32 float64"},
    {"linear_tangents", "float32 float64"},
    {"winograd", "float32 float64"},
    {"convolve_to_few", "float32 float64"},
    {"active_convolutions", "float32 float64", false},
};

py::dict build_info() {
  py::dict info;
  info["version"] = POLARITY_VERSION;
  info["torch"] = POLARITY_TORCH_VERSION;
  info["torch_target"] = POLARITY_TORCH_TARGET;
  info["compiler"] = POLARITY_COMPILER;
  info["cuda"] = POLARITY_CUDA_VERSION;
  info["cuda_architectures"] = POLARITY_CUDA_ARCHITECTURES;
  info["cuda_reason"] = POLARITY_CUDA_REASON;
  return info;
}

py::list kernel_table() {
  py::list rows;
  for (const KernelRow& row : kKernels) {
    py::dict entry;
    entry["name"] = row.name;
    entry["dtypes"] = row.dtypes;
    entry["backends"] = POLARITY_HAS_CUDA && row.has_cuda ? "cpu cuda" : "cpu";
    rows.append(entry);
  }
  return rows;
}

constexpr cpu::Isa kIsas[] = {cpu::Isa::avx512, cpu::Isa::avx2, cpu::Isa::baseline};

py::list instruction_sets() {
  py::list names;
  for (const cpu::Isa isa : kIsas) {
    if (cpu::is_supported(isa)) names.append(cpu::name_of(isa));
  }
  return names;
}

std::string instruction_set() { return cpu::name_of(cpu::isa_in_use()); }

void use_instruction_set(const std::string& name) {
  for (const cpu::Isa isa : kIsas) {
    if (name == cpu::name_of(isa) && cpu::is_supported(isa)) {
      cpu::isa_in_use() = isa;
      return;
    }
  }
  throw py::value_error("use_instruction_set: this machine has no '" + name +
                        "'; instruction_sets() lists those it has");
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of polarity_ext; importing it registers torch.ops.polarity.*";
  m.def("build_info", &build_info, "What this binary was built from and for.");
  m.def("kernel_table", &kernel_table, "Rows of {name, dtypes, backends}, one for each kernel.");
  m.def("instruction_sets", &instruction_sets, "Instruction sets of this CPU, best first.");
  m.def("instruction_set", &instruction_set, "The one the CPU kernels use.");
  m.def("use_instruction_set", &use_instruction_set, py::arg("name"),
        "Makes the CPU kernels use another one, to test or to measure it.");
  polarity::bind_arrays(m.def_submodule("arrays", "The kernels for arrays of any library."));
}
