"""The source distribution is complete; a wheel made from it installs and runs elsewhere."""

import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

from tests.packaging.conftest import ROOT, run


def tracked(*places: str) -> set[str]:
    return set(run("git", "ls-files", *places, cwd=ROOT).split())


def test_the_sdist_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = tracked("csrc", "polarity_ext", "python", "tests")
    needed |= {"setup.py", "CMakeLists.txt", "pyproject.toml", "LICENSE", "README.md", "MANIFEST.in"}
    assert needed - names == set()
    assert [name for name in names if name.endswith((".so", ".pyc")) or name.startswith("build/")] == []


def test_the_wheel_holds_both_packages_and_the_extension(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {name.removeprefix("python/") for name in tracked("polarity_ext", "python")}
    assert modules - names == set()
    assert len([name for name in names if name.startswith("polarity_ext/_C.")]) == 1
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "polarity_ext",
        "polarity_sampling",
    }  # the third, *.dist-info, starts like the second


def test_the_wheel_runs_in_a_fresh_environment(installed: Path, tmp_path: Path) -> None:
    script = """
import torch, polarity_ext, polarity_sampling
y = torch.randn(2, 50, 4)
torch.testing.assert_close(polarity_ext.gram(y), y.double().mT @ y.double())
print(polarity_ext.__file__, polarity_sampling.__file__, polarity_ext.build_info()["cuda_reason"], sep="\\n")
"""
    ext, library, reason = run(installed, "-c", script, cwd=tmp_path).splitlines()
    assert Path(ext).is_relative_to(installed.parents[1])
    assert Path(library).is_relative_to(installed.parents[1])
    assert reason == "switched off (POLARITY_WITH_CUDA=OFF)"


def test_the_wheel_brings_the_command(installed: Path, tmp_path: Path) -> None:
    assert "demo" in run(installed.parent / "polarity", "--help", cwd=tmp_path)


def test_setup_py_is_a_thin_driver() -> None:
    assert len((ROOT / "setup.py").read_text().splitlines()) <= 150


def test_no_package_is_forgotten() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [*ROOT.glob("python/**/__init__.py"), *ROOT.glob("polarity_ext/**/__init__.py")]
    names = {".".join(file.parent.relative_to(ROOT).parts).removeprefix("python.") for file in found}
    assert names == set(project)


def test_no_source_is_forgotten() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    sources = {name for name in tracked("csrc") if name.endswith((".cpp", ".cu"))}
    assert [name for name in sorted(sources) if name not in text] == []


def test_importing_the_library_needs_torch_and_numpy_only(tmp_path: Path) -> None:
    script = """
import sys, polarity_sampling
late = {"pyarrow", "scipy", "arviz_stats", "rich", "typer", "matplotlib", "PIL", "safetensors", "pandas"}
print(sorted(late & set(sys.modules)))
"""
    assert run(sys.executable, "-c", script, cwd=tmp_path).strip() == "[]"
