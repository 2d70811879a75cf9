"""``python .ci/tidy.py``: clang-tidy over every C++ and CUDA source, as .clang-tidy says.

The CUDA sources are looked at twice: as device code, through clang's own CUDA mode and the headers of the
toolkit that nvcc belongs to; and as host code, for the launches. Without nvcc they are left out, which is
said. Exit status 1: findings.
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIDY = Path(sys.executable).with_name("clang-tidy")  # pip put it beside this Python


def package(name: str) -> Path:
    """Found, not imported."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise SystemExit(f"{name} is missing for {sys.executable}; run `make lint`, which installs it")
    return Path(found.origin).parent


def system(folder: Path | str) -> list[str]:
    return ["-isystem", str(folder)]


@functools.cache
def compiler_headers() -> str:
    """g++'s own folder: of the sanitizers' interface, which the clang-tidy package lacks."""
    return subprocess.check_output(["g++", "-print-file-name=include"], text=True).strip()


def jobs() -> list[tuple[Path, list[str]]]:
    """Every source with the options it is looked at with."""
    torch = [*system(package("torch") / "include"), "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    generated = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}" / "generated"  # by setup.py
    pybind11 = [
        *system(package("pybind11") / "include"),
        *system(sysconfig.get_path("include")),
        f"-I{generated}",
    ]
    emulator = ["-DPOLARITY_EMULATED", "-Itests/emulator/include", "-I.", "-idirafter", compiler_headers()]
    followed = {"checker.cpp": ["-DPOLARITY_CHECKED"]}
    followed["thread_sanitizer.cpp"] = [*followed["checker.cpp"], "-DPOLARITY_THREAD_SANITIZER"]

    found = [(source, []) for source in ROOT.glob("csrc/kernels/*.cpp")]
    for source in ROOT.glob("csrc/torch/*.cpp"):
        found.append((source, pybind11 if source.name == "module.cpp" else [*torch, "-DPOLARITY_WITH_CUDA"]))
    found += [(source, pybind11) for source in ROOT.glob("csrc/python/*.cpp")]
    for source in ROOT.glob("tests/emulator/**/*.cpp"):
        found.append((source, [*emulator, *torch, *followed.get(source.name, [])]))
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        print("no nvcc on this machine: clang-tidy did NOT see the CUDA kernels as device code")
        return found
    cuda = ["-x", "cuda", f"--cuda-path={toolkit(nvcc)}", "-nocudalib", "--cuda-gpu-arch=sm_90"]
    # Which toolkit, clang would read from a file that not every one has; what it changes is how kernels
    # are launched, the same since 9.2.
    cuda += ["-Xclang", "-target-sdk-version=13.0", "-idirafter", str(ROOT / ".ci" / "cuda_stub")]
    for source in ROOT.glob("csrc/kernels/*.cu"):
        found += [(source, [*cuda, "--cuda-device-only"]), (source, [*cuda, "--cuda-host-only"])]
    return found


def toolkit(nvcc: str) -> Path:
    """Where the toolkit of this nvcc is, as it says itself."""
    done = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True)
    (top,) = (line.partition("TOP=")[2] for line in done.stderr.splitlines() if " TOP=" in line)
    return Path(top).resolve()


def check(job: tuple[Path, list[str]]) -> str:
    """What clang-tidy says; nothing where all is well."""
    source, options = job
    command = [str(TIDY), "--quiet", str(source), "--", "-std=c++17", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode else ""


def main() -> int:
    todo = jobs()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        findings = sorted(set(filter(None, pool.map(check, todo))))
    print("".join(findings) + f"clang-tidy: {len(todo)} passes, {len(findings)} with findings")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
