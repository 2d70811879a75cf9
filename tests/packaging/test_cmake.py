"""POLARITY_WITH_CUDA: what it decides and what it says. Configures only, compiles nothing."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, run


@pytest.fixture
def configure(tmp_path: Path):
    ninja = run(sys.executable, "-c", "import ninja; print(ninja.BIN_DIR)").strip() + "/ninja"
    cmake = run(sys.executable, "-c", "import cmake; print(cmake.CMAKE_BIN_DIR)").strip() + "/cmake"

    def call(with_cuda: str, *definitions: str) -> str:
        return run(
            *(cmake, "-G", "Ninja", "-S", ROOT, "-B", tmp_path, f"-DCMAKE_MAKE_PROGRAM={ninja}"),
            *(f"-DPython_EXECUTABLE={sys.executable}", f"-DPOLARITY_WITH_CUDA={with_cuda}", *definitions),
            check=False,
        )

    return call


# As without nvcc: programs are looked for below a folder that is not there (the compiler is given).
HIDDEN = (
    f"-DCMAKE_CXX_COMPILER={shutil.which('c++')}",
    "-DCMAKE_FIND_ROOT_PATH=/nonexistent",
    "-DCMAKE_FIND_ROOT_PATH_MODE_PROGRAM=ONLY",
)


def test_on_without_nvcc_fails_early_with_the_reason(configure) -> None:
    text = " ".join(configure("ON", *HIDDEN).split())
    assert "POLARITY_WITH_CUDA=ON, but no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda" in text
    assert "Install the CUDA toolkit 12.0 or newer, set CUDA_HOME, or use AUTO" in text
    assert "Configuring incomplete" in text


def test_auto_without_nvcc_builds_for_the_cpu_and_says_so(configure) -> None:
    text = configure("AUTO", *HIDDEN)
    assert "CUDA kernels: none, CPU only (no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda)" in text
    assert "Generating done" in text


def test_off_does_not_look_for_nvcc(configure) -> None:
    text = configure("OFF")
    assert "CUDA kernels: none, CPU only (switched off (POLARITY_WITH_CUDA=OFF))" in text
    assert "Generating done" in text


@pytest.mark.parametrize(
    ("prints", "reason"),
    [
        ("Cuda compilation tools, release 11.8, V11.8.89", "is version 11.8, older than 12.0"),
        ("nothing to see", "does not run or prints no version"),
    ],
)
def test_an_nvcc_that_will_not_do(configure, prints: str, reason: str, tmp_path: Path) -> None:
    nvcc = tmp_path / "old-nvcc"
    nvcc.write_text(f"#!/bin/sh\necho '{prints}'\n")
    nvcc.chmod(0o755)
    assert f"CUDA kernels: none, CPU only ({nvcc} {reason})" in configure("AUTO", f"-DPOLARITY_NVCC={nvcc}")
    assert f"POLARITY_WITH_CUDA=ON, but {nvcc} {reason}" in " ".join(
        configure("ON", f"-DPOLARITY_NVCC={nvcc}").split()
    )


def test_a_wrong_value_is_refused(configure) -> None:
    assert "POLARITY_WITH_CUDA is 'YES'; it must be AUTO, ON or OFF" in " ".join(configure("YES").split())
