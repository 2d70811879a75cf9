"""What is measured on: its name, its settings, and its ceilings."""

import contextlib
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from polarity_sampling.precision import fp32_precisions, set_fp32_precisions

import polarity_ext
from benchmarks.kernels.timing import once
from tests.ops.backends import Backend


def name_of(device: str) -> str:
    """The model of the GPU or CPU, as the system gives it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def file_stem(name: str) -> str:
    """``Intel(R) Xeon(R) Processor`` -> ``intel-xeon-processor``."""
    plain = re.sub(r"\((r|tm)\)", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9.]+", plain))


def settings(backend: Backend) -> dict[str, str]:
    """What must be the same for ratios to be comparable."""
    if backend.device == "cuda":
        return {"device": name_of("cuda")}
    return {
        "device": name_of("cpu"),
        "instruction set": polarity_ext._C.instruction_set(),
        "threads": str(torch.get_num_threads()),
    }


def gemm_operand(device: str, dtype: torch.dtype) -> torch.Tensor:
    """A square matrix whose product with itself runs at full speed."""
    n = 512 if device == "cpu" else 4096
    return torch.ones(n, n, device=device, dtype=dtype)


def gemm_flop_per_second(device: str, dtype: torch.dtype) -> float:
    """Of torch's matrix product: the best of its repetitions."""
    a = gemm_operand(device, dtype)
    return 2 * len(a) ** 3 / min(once(lambda: a @ a, device) for _ in range(20))


@contextlib.contextmanager
def tf32(device: str, allowed: bool) -> Iterator[None]:
    """Whether the library's products and convolutions of float32 may round factors to TF32 on a GPU."""
    if device != "cuda":
        yield
        return
    before = fp32_precisions()
    set_fp32_precisions(["tf32" if allowed else "ieee"] * len(before))
    try:
        yield
    finally:
        set_fp32_precisions(before)


def release(device: str) -> None:
    """Gives memory back that torch and CuPy keep, each for itself."""
    if device == "cuda":
        torch.cuda.empty_cache()
        if "cupy" in sys.modules:
            sys.modules["cupy"].get_default_memory_pool().free_all_blocks()


def copy_bytes_per_second(device: str) -> float:
    """Read and written by a copy too large for the caches: the best of its repetitions."""
    source = torch.ones(1 << 28 if device == "cpu" else 1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / min(once(lambda: target.copy_(source), device) for _ in range(5))
