"""``python -m benchmarks.kernels.resources LOG [--nvcc NVCC] [--update]``: what every kernel takes of a GPU.

LOG is the output of a build with POLARITY_STRICT=ON, where ptxas names registers, shared memory and
spills. Beside them stands the occupancy (percent of a multiprocessor's warps), by cuda_occupancy.h. The
table is compared with resources.csv; --update writes it. Exit status 1: a kernel spills, the log names
none, or the table is not that of resources.csv though the compiler is.
"""

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("resources.csv")
THREADS = {  # of a block where it is not 256 (csrc/kernels/*_cuda.cu), by how the kernel's name begins
    "convolve_to_few_kernel": 128,
    "gram_partial_kernel": 128,
    "draw_choose_kernel": 480,
    "jacobi_singular_values_kernel<128": 128,
    "jacobi_singular_values_kernel<512": 512,
    "normalize_columns_kernel<512": 512,
    "symmetric_bisect_kernel": 64,
    "symmetric_eigenvalues_kernel<32": 32,
    "symmetric_eigenvalues_kernel<64": 64,
    "symmetric_eigenvalues_kernel<128": 128,
    "upfirdn2d_kernel": 128,
}


class Usage(NamedTuple):
    kernel: str
    architecture: str
    registers: int
    shared: int
    stack: int
    spills: int
    occupancy: int = 0


ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(\w+)'\n"
    r".*\n\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n"
    r".*Used (\d+) registers(.*)"
)


def parse(log: str) -> list[Usage]:
    found = []
    for name, architecture, stack, stores, loads, registers, rest in ENTRY.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        spills = int(stores) + int(loads)
        found.append(
            Usage(name, architecture, int(registers), int(shared[1]) if shared else 0, int(stack), spills)
        )
    names = demangled([usage.kernel for usage in found])
    return sorted(usage._replace(kernel=name) for usage, name in zip(found, names, strict=True))


def demangled(names: list[str]) -> list[str]:
    """C++ names without the parameter list."""
    text = subprocess.run(["c++filt", "-p", *names], text=True, capture_output=True, check=True).stdout
    return [line.removeprefix("void polarity::").replace("polarity::", "") for line in text.splitlines()]


def threads_of(kernel: str) -> int:
    return next((count for prefix, count in THREADS.items() if kernel.startswith(prefix)), 256)


def with_occupancy(usages: list[Usage], nvcc: str) -> list[Usage]:
    rows = [
        f"{usage.architecture.removeprefix('sm_')} {threads_of(usage.kernel)} "
        f"{usage.registers} {usage.shared}\n"
        for usage in usages
    ]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "occupancy"
        subprocess.run([nvcc, str(Path(__file__).with_name("occupancy.cpp")), "-o", str(program)], check=True)
        done = subprocess.run([program], input="".join(rows), text=True, capture_output=True, check=True)
    percents = done.stdout.split()
    return [usage._replace(occupancy=int(p)) for usage, p in zip(usages, percents, strict=True)]


def release(nvcc: str) -> str:
    text = subprocess.run([nvcc, "--version"], text=True, capture_output=True, check=True).stdout
    found = re.search(r"release ([\d.]+)", text)
    return found[1] if found else "unknown"


def differences(usages: list[Usage], nvcc_release: str) -> list[str]:
    """Lines that differ from the committed table; none where that is of another compiler."""
    with TABLE.open() as file:
        compiler, *committed = csv.reader(file)
    if compiler[1] != nvcc_release:
        print(f"{TABLE.name} was made with nvcc {compiler[1]}, this is {nvcc_release}: not compared")
        return []
    now = {",".join(map(str, usage)) for usage in usages}
    before = {",".join(row) for row in committed[1:]}
    return [f"- {row}" for row in sorted(before - now)] + [f"+ {row}" for row in sorted(now - before)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--nvcc", default="nvcc", help="the compiler that wrote the log (nvcc)")
    parser.add_argument("--update", action="store_true", help="write resources.csv")
    arguments = parser.parse_args()

    usages = with_occupancy(parse(arguments.log.read_text()), arguments.nvcc)
    line = "{:<64} {:>7} {:>9} {:>6} {:>5} {:>6} {:>9}"
    print(line.format(*Usage._fields))
    for usage in usages:
        print(line.format(*usage))
    if not usages:
        print("no kernel in this log: is POLARITY_STRICT on, and was everything compiled anew?")
        return 1
    if arguments.update:
        with TABLE.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["nvcc", release(arguments.nvcc)])
            writer.writerow(Usage._fields)
            writer.writerows(usages)
    changed = differences(usages, release(arguments.nvcc))
    if changed:
        print("\n".join([f"differs from {TABLE}; if that is meant, run again with --update:", *changed]))
    return 1 if changed or any(usage.spills for usage in usages) else 0


if __name__ == "__main__":
    sys.exit(main())
