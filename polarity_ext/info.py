"""``python -m polarity_ext.info``: what was built, what is here, and whether they fit.

(Where the extension does not load at all, importing the package already says why and what to do.)
"""

import importlib.metadata
import platform
import sys

import torch

import polarity_ext


def report() -> tuple[list[tuple[str, str]], list[str]]:
    """Rows (name, value) to show, and problems in words (empty when everything fits)."""
    rows = [("python", f"{platform.python_version()} ({sys.executable})")]
    problems: list[str] = []
    cuda = torch.version.cuda
    rows.append(("torch", f"{torch.__version__} (CUDA {cuda or 'none: a CPU build'})"))
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    rows.append(("devices", ", ".join(["cpu", *devices])))
    rows.append(("cpu threads", str(torch.get_num_threads())))
    built = polarity_ext.build_info()
    rows += [
        ("polarity_ext", f"{built['version']}, compiled with {built['compiler']}"),
        ("built against", f"torch {built['torch']}, stable ABI of torch {built['torch_target']}"),
        ("CUDA kernels", built["cuda"] or f"none ({built['cuda_reason']})"),
    ]
    if built["cuda"]:
        rows.append(("architectures", f"{built['cuda_architectures']} (the last also as PTX)"))
    instruction_sets = ", ".join(polarity_ext._C.instruction_sets())
    rows.append(("CPU kernels", f"{polarity_ext._C.instruction_set()} (this machine has {instruction_sets})"))
    for kernel in polarity_ext.kernel_table():
        rows.append((f"kernel {kernel['name']}", f"{kernel['backends']}; {kernel['dtypes']}"))
    rows.append(("CUDA ops registered", str(_has_cuda_kernel())))

    installed = importlib.metadata.version("polarity-sampling")
    if installed != built["version"]:
        problems.append(
            f"the extension is version {built['version']} but the package is {installed}; rebuild: "
            "pip install --no-build-isolation -e ."
        )
    if devices and not built["cuda"]:
        problems.append(
            f"torch sees {devices[0]}, but the extension was built without CUDA ({built['cuda_reason']}); "
            "install the CUDA toolkit and rebuild: "
            "POLARITY_WITH_CUDA=ON pip install --no-build-isolation -e ."
        )
    elif devices:
        problems += _missing_architectures(built["cuda_architectures"])
    return rows, problems


def _has_cuda_kernel() -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key("polarity::gram", "CUDA")


def _missing_architectures(text: str) -> list[str]:
    """GPUs of this machine that neither the compiled code nor the PTX can serve."""
    built = [int(word.split("-")[0]) for word in text.split()]
    problems = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        capability = 10 * major + minor
        native = any(10 * (b // 10) == 10 * major and b <= capability for b in built)
        if not native and capability < max(built):
            problems.append(
                f"GPU {index} ({torch.cuda.get_device_name(index)}) has compute capability {major}.{minor}, "
                f"built are {text}; rebuild with CMAKE_ARGS=-DPOLARITY_CUDA_ARCHITECTURES={capability}"
            )
    return problems


def main() -> int:
    rows, problems = report()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    if not problems:
        print("everything fits")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
