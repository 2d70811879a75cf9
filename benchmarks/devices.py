"""The device a benchmark runs on: the clock that fits it, its name, and float32 products that are float32."""

import argparse
import platform
import time
from collections.abc import Callable

import torch
from polarity_sampling.precision import fp32_kinds, set_fp32_precisions

from benchmarks.kernels.device import file_stem, name_of

Clock = Callable[[], float]
"""Seconds of the wall, or of the processor."""

DEVICES = ("cpu", "cuda")
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="of generators and peers (cpu)")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="or seconds of the processor, on a machine that others use: then with OMP_NUM_THREADS=1 (wall)",
    )


def prepare(parser: argparse.ArgumentParser, device: str, clock: str) -> None:
    """Refuses what does not go together; on a GPU, makes every contender multiply in float32."""
    if device == "cpu":
        return
    if clock == "cpu":
        parser.error("--clock cpu: the processor does not work while a CUDA device does; use --clock wall")
    if not torch.cuda.is_available():
        parser.error(f"--device cuda: torch {torch.__version__} finds no CUDA device; use --device cpu")
    _float32_products()


def _float32_products() -> None:
    """cuDNN's convolutions round to TF32 unless told not to, and only peers would lose digits by that."""
    set_fp32_precisions(["ieee"] * len(fp32_kinds()))


def clock_of(device: str, clock: str) -> Clock:
    """On a CUDA device one that waits for what is queued there, before and behind a call."""
    return CLOCKS[clock] if device == "cpu" else _after_the_device


def _after_the_device() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def machine(device: str, clock: str) -> str:
    """What times are of, for the head of a table."""
    if device == "cuda":
        return f"{name_of('cuda')}, torch {torch.__version__}, {clock} time"
    threads = torch.get_num_threads()
    return f"{platform.machine()}, torch {torch.__version__}, {threads} threads, {clock} time"


def file_name(stem: str, device: str) -> str:
    """Of a table of results: each GPU has one of its own beside that of CPUs."""
    return f"{stem}.csv" if device == "cpu" else f"{stem}-{file_stem(name_of(device))}.csv"
