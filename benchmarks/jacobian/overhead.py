"""What a further batch of the same shape costs besides its kernels: Python, checks, dispatch."""

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import polarity_sampling as ps
import torch
from torch.utils import cpp_extension

from benchmarks.jacobian.models import WORKLOADS
from tests.architectures.kinks import latents_off_kinks

BATCHES = 15


def overhead(name: str, memory: int) -> float:
    """Median over batches of the part of the time, latents to result, in which no operator of torch ran.

    Kernels vary by more from run to run than all that is sought, so it is not the difference of two runs: it
    is what lies between the operators of one.
    """
    workload = WORKLOADS[name]
    generator = workload.make()
    parts = []
    # Before: what else runs between batches leaves the memory of its own for the next one to give back.
    batches = [latents_off_kinks(generator, workload.batch, seed=seed) for seed in range(BATCHES + 1)]
    with _clock() as clock, torch.no_grad():
        for z, label in batches:
            clock.start_counting()
            start = time.perf_counter()
            J = ps.jacobian(generator, z, label, memory=memory)
            J.column_block(0, workload.products or z.shape[1])
            seconds = time.perf_counter() - start
            parts.append(1 - clock.stop_counting() / seconds)
    return median(parts[1:])  # the first one captures


@contextmanager
def _clock() -> Iterator[ctypes.CDLL]:
    """overhead.cpp, compiled against this torch."""
    source = Path(__file__).with_name("overhead.cpp")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "overhead.so"
        paths = [f"-I{path}" for path in cpp_extension.include_paths()]
        paths += [f"-L{path}" for path in cpp_extension.library_paths()]
        compiler = os.environ.get("CXX", "c++")
        flags = ["-std=c++20", "-O2", "-shared", "-fPIC"]
        subprocess.run(
            [compiler, *flags, *paths, str(source), "-o", str(library), "-ltorch_cpu", "-lc10"], check=True
        )
        clock = ctypes.CDLL(str(library))
        clock.stop_counting.restype = ctypes.c_double
        yield clock
