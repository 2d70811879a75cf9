"""One sdist and one wheel built from it for all tests of packaging: the builds are the slow part."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("POLARITY_", "CMAKE_")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:  # one worker of pytest-xdist, so that the builds happen once
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("packaging"))


def run(*command: str | Path, cwd: Path | None = None, check: bool = True, **environment: str) -> str:
    """Standard output and error of a command; fails with them if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert not check or done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a copy of the tree (a build must not touch the tree it tests)."""
    tree = tmp_path_factory.mktemp("tree") / "project"
    kept = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in kept:
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, tree)
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("unpacked")
    shutil.unpack_archive(sdist, place)
    return next(place.iterdir())


@pytest.fixture(scope="session")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CPU-only wheel, built from the unpacked sdist; the build tree stays in its build/."""
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps")
    run(*pip, "--wheel-dir", out, unpacked, POLARITY_WITH_CUDA="OFF")
    return next(out.glob("*.whl"))


def environment(place: Path) -> Path:
    """The Python of a fresh environment that sees torch and numpy of this one, but no editable install."""
    venv.create(place)
    python = place / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "host.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("environment") / "venv")


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel."""
    python = environment(tmp_path_factory.mktemp("environment") / "venv")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    return python
