"""csrc/device compiles for the oldest and the newest architecture, PTX included, used by a kernel or not."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.emulator import build as emulator

PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "products", "synchronisation"])
def test_programs_compile_with_nvcc(name: str, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on this machine")
    strict = ["-Werror=all-warnings", "-Xptxas=--warn-on-spills", "-Xcompiler=-Wall,-Wextra"]
    architectures = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in (80, 120)]
    command = [nvcc, "-x", "cu", "-std=c++17", "-O3", f"-I{emulator.ROOT}", *strict, *architectures]
    done = subprocess.run(
        [*command, "-c", str(PROGRAMS / f"{name}.cpp"), "-o", str(tmp_path / "out.o")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
