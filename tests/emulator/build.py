"""Builds the emulator on demand: ``python -m tests.emulator.build [target ...]``."""

import ctypes
import fcntl
import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "emulator"
ORDERS = ("forward", "reverse", "random")


def tool(name: str) -> str | None:
    """The one pip installed, even where it is not on PATH; else the one on PATH."""
    try:
        for file in importlib.metadata.files(name) or []:
            if file.name == name and os.access(str(file.locate()), os.X_OK):
                return str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        pass
    return shutil.which(name)


def why_not() -> str | None:
    """Why the emulator cannot be built here, in words; None where it can."""
    missing = [name for name in ("cmake", "ninja") if tool(name) is None]
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        missing.append(os.environ.get("CXX", "g++"))
    if missing:
        return f"the emulator cannot be built: {', '.join(missing)} not found"
    return None


@functools.cache
def build(target: str) -> Path:
    """Path of an up-to-date target; raises with the compiler's words where it does not build."""
    cmake, ninja = tool("cmake"), tool("ninja")
    assert cmake
    assert ninja
    source = Path(__file__).parent
    configure = [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    compiler = [f"-DCMAKE_CXX_COMPILER={os.environ.get('CXX', 'g++')}"]
    commands = [
        [cmake, "-G", "Ninja", "-S", str(source), "-B", str(BUILD), *configure, *compiler],
        [cmake, "--build", str(BUILD), "--target", target],
    ]
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run in several processes
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                words = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
                raise RuntimeError(f"{' '.join(command)} failed:\n{words}")
    return BUILD / (f"{target}.so" if target.startswith("emulated") else target)


def skip_without_thread_sanitizer() -> None:
    """Its library refuses to start where the kernel maps memory in places that it keeps for itself."""
    done = subprocess.run([build("programs_tsan")], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"ThreadSanitizer does not run here: {done.stderr.strip()[:200]}")


@functools.cache
def load(path: Path) -> Any:
    """Registers torch.ops.polarity_emulated (once in a process) and gives `schedule` its handle."""
    torch.ops.load_library(str(path))
    return ctypes.CDLL(str(path))


def schedule(library: Any, order: str, seed: int) -> None:
    """How the next launches order threads and blocks."""
    library.polarity_emulator_schedule(ORDERS.index(order), ctypes.c_uint64(seed))


@contextmanager
def last_blocks(library: Any, count: int) -> Iterator[None]:
    """Launches run the last blocks of their grid alone; 0: all of them."""
    library.polarity_emulator_run_last_blocks(ctypes.c_int64(count))
    try:
        yield
    finally:
        library.polarity_emulator_run_last_blocks(ctypes.c_int64(0))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ["all"]:
        print(build(wanted))
