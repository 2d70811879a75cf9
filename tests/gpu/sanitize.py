"""``python -m tests.gpu.sanitize [tool ...]``: the CUDA kernels under NVIDIA's compute-sanitizer.

Runs the small rows of the case table on the GPU once under each tool: memcheck (accesses outside tensors,
misaligned ones), racecheck (shared memory that nothing orders), synccheck (barriers not all threads reach)
and initcheck (global memory read before it is written). Exit status 1: findings or wrong results; 2: there
is no GPU or no compute-sanitizer here, and nothing was run.
"""

import argparse
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from tests.ops import small_rows
from tests.ops.backends import CPU, CUDA

ROOT = Path(__file__).parents[2]
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
FINDINGS = 99  # exit status that compute-sanitizer is told to use for them
SECONDS = 1800  # of one tool: racecheck slows kernels down a hundredfold


def sanitizer() -> str | None:
    """The tool beside nvcc, or the one on PATH."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("compute-sanitizer") or shutil.which(f"{home}/bin/compute-sanitizer")


def command(program: str, tool: str, seed: int) -> list[str]:
    watched = [sys.executable, "-m", "tests.gpu.sanitize", "--rows", "cuda", "--seed", str(seed)]
    # torch's own kernels, which fill and compare, are not looked at.
    options = ["--tool", tool, "--error-exitcode", str(FINDINGS), "--kernel-name", "kns=polarity"]
    return [program, *options, *watched]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.sanitize", description=__doc__)
    parser.add_argument("tools", nargs="*", metavar="tool", help=f"of {', '.join(TOOLS)}; default: all")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31), help="of the inputs; default: new")
    parser.add_argument("--rows", choices=["cpu", "cuda"], help="run the rows in this process, unwatched")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.tools) - set(TOOLS)
    if unknown:
        parser.error(f"no tool {', '.join(sorted(unknown))}; there are {', '.join(TOOLS)}")
    if chosen.rows:
        passed, failed = small_rows.run(CUDA if chosen.rows == "cuda" else CPU, chosen.seed)
        print(f"{passed} passed, {failed} failed")
        return 1 if failed or not passed else 0

    program = sanitizer()
    if program is None or not torch.cuda.is_available():
        missing = "compute-sanitizer" if program is None else f"CUDA device (torch {torch.__version__})"
        print(f"no {missing} on this machine: the kernels were NOT sanitized")
        return 2
    status = 0
    for tool in chosen.tools or TOOLS:
        print(f"=== {tool}, --seed {chosen.seed}", flush=True)
        done = subprocess.run(command(program, tool, chosen.seed), cwd=ROOT, timeout=SECONDS)
        if done.returncode:
            print(f"{tool}: {'findings' if done.returncode == FINDINGS else 'failed'}, see above")
            status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
