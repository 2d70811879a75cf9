"""The binary: which symbols it needs, what its loader says when it does not fit, what info prints."""

import importlib.machinery
import importlib.metadata
import os
import re
import shutil
import sys
import venv
from pathlib import Path

import polarity_sampling
import pytest
import torch

import polarity_ext
from tests.packaging.conftest import ROOT, run

EXTENSION = Path(polarity_ext._C.__file__)


def undefined(binary: Path, *options: str) -> list[str]:
    """Names of the symbols that a library or an object expects elsewhere, demangled."""
    lines = run("nm", "--undefined-only", "--demangle", *options, binary).splitlines()
    return [line.strip().split(maxsplit=1)[1] for line in lines]


def test_needs_only_the_c_interface_of_torch() -> None:
    """No undefined C++ symbol of torch: the one binary then runs on every torch from 2.10 on."""
    names = undefined(EXTENSION, "-D")
    spaces = ("c10::", "at::", "torch::", "caffe2::")
    assert [name for name in names if any(space in name for space in spaces)] == []
    shims = [name for name in names if name.startswith(("aoti_torch_", "torch_"))]
    assert "torch_call_dispatcher" in shims
    assert [name for name in names if "torch" in name and name not in shims] == []


def test_holds_no_path_of_the_machine_that_built_it() -> None:
    assert "PATH" not in run("readelf", "--dynamic", EXTENSION)
    places = re.findall(re.escape(os.fsencode(ROOT)) + rb"/[\w./-]*", EXTENSION.read_bytes())
    assert places == []


def test_the_python_side_knows_no_torch(unpacked: Path, wheel: Path) -> None:
    objects = [*unpacked.glob("build/**/module.cpp.o"), *unpacked.glob("build/**/csrc/python/*.cpp.o")]
    assert {path.name for path in objects} >= {"module.cpp.o", "arrays_random.cpp.o", "call.cpp.o"}
    assert [name for path in objects for name in undefined(path) if "torch" in name] == []


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with a copy of polarity_ext that lacks its extension."""
    left_out = shutil.ignore_patterns("_C*", "__pycache__")
    shutil.copytree(ROOT / "polarity_ext", tmp_path / "polarity_ext", ignore=left_out)
    return tmp_path


def import_error(python: Path, place: Path) -> str:
    text = run(python, "-c", "import polarity_ext", cwd=place, check=False)
    return text.strip().splitlines()[-1]


def test_no_extension(host: Path, bare: Path) -> None:
    text = import_error(host, bare)
    missing = f"there is no compiled extension in {bare / 'polarity_ext'}"
    assert text.startswith(f"ImportError: polarity_ext: {missing}")
    assert "pip install --no-build-isolation -e ." in text


def test_an_extension_for_another_python(host: Path, bare: Path) -> None:
    (bare / "polarity_ext" / "_C.cpython-39-x86_64-linux-gnu.so").touch()
    text = import_error(host, bare)
    assert "built for another Python (found _C.cpython-39-x86_64-linux-gnu.so" in text
    assert f"needs _C{importlib.machinery.EXTENSION_SUFFIXES[0]}" in text
    assert "pip install --no-build-isolation -e ." in text


def test_an_extension_that_does_not_load(host: Path, bare: Path) -> None:
    (bare / "polarity_ext" / f"_C{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_text("not a library")
    text = import_error(host, bare)
    assert "does not load" in text
    assert "It needs torch >= 2.10" in text
    assert "pip install --no-build-isolation -e ." in text


def test_info(tmp_path: Path) -> None:
    text = run(sys.executable, "-m", "polarity_ext.info", cwd=tmp_path)
    built = polarity_ext.build_info()
    assert re.search(rf"^torch +{re.escape(torch.__version__)}", text, re.MULTILINE)
    assert f"stable ABI of torch {built['torch_target']}" in text
    for row in polarity_ext.kernel_table():
        assert f"kernel {row['name']}" in text
    assert (built["cuda_architectures"] if built["cuda"] else built["cuda_reason"]) in text
    assert re.search(rf"^CPU kernels +{polarity_ext._C.instruction_set()}", text, re.MULTILINE)
    assert text.rstrip().endswith("everything fits")


def test_no_torch(bare: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty")
    text = import_error(tmp_path / "empty" / "bin" / "python", bare)
    assert text.startswith("ImportError: polarity_ext: torch is not installed for ")
    assert text.endswith("pip install 'torch>=2.10'")


def test_one_version_everywhere() -> None:
    installed = importlib.metadata.version("polarity-sampling")
    assert polarity_ext.build_info()["version"] == installed
    assert polarity_sampling.__version__ == installed
