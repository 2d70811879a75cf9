"""Drives CMake; everything about the build itself is in CMakeLists.txt.

Environment: POLARITY_WITH_CUDA=AUTO|ON|OFF (default AUTO), CMAKE_ARGS (handed to CMake as it is),
MAX_JOBS (parallel compile jobs).
"""

import contextlib
import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def build_tool(name: str) -> str:
    """Path of cmake or ninja: the one pip installed, even where it is not on PATH; else the one on PATH."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(name) or []:
            if file.name == name and os.access(file.locate(), os.X_OK):
                return str(file.locate())
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"polarity_ext: {name} is missing; pip install 'cmake>=3.26' 'ninja>=1.11'")
    return found


class CMakeBuild(build_ext):
    """Configures, builds and copies polarity_ext/_C."""

    def build_extension(self, ext: Extension) -> None:
        cmake = build_tool("cmake")
        # One build tree per interpreter; an editable install reuses it, so rebuilds are short.
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        arguments = [
            f"-DPython_EXECUTABLE={sys.executable}",
            # Given anew each time: the ninja of an isolated build is gone when the next one starts.
            f"-DCMAKE_MAKE_PROGRAM={build_tool('ninja')}",
            f"-DPOLARITY_WITH_CUDA={os.environ.get('POLARITY_WITH_CUDA', 'AUTO')}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run([cmake, "-G", "Ninja", "-S", str(ROOT), "-B", str(build_dir), *arguments], check=True)
        jobs = os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))
        subprocess.run([cmake, "--build", str(build_dir), "--parallel", jobs], check=True)

        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Replace, never overwrite: a running process may have the old file mapped.
        fresh = target.with_suffix(".new")
        shutil.copy2(build_dir / target.name, fresh)
        os.replace(fresh, target)


setup(ext_modules=[Extension("polarity_ext._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
