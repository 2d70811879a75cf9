"""``python -m benchmarks.kernels.resources LOG``: registers, stack and spills of every kernel, from ptxas -v.

Prints one line for each kernel and architecture; exits 1 if any spills, or if the log names no kernel.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    kernel: str
    architecture: str
    registers: int
    shared: int
    stack: int
    spills: int


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


def main() -> int:
    usages = parse(Path(sys.argv[1]).read_text())
    print(f"{'kernel':<64} {'arch':>7} {'registers':>9} {'shared':>6} {'stack':>5} {'spills':>6}")
    for usage in usages:
        kernel, *numbers = usage
        print("{:<64} {:>7} {:>9} {:>6} {:>5} {:>6}".format(kernel, *numbers))
    if not usages:
        print("no kernel in this log: is POLARITY_STRICT on, and was everything compiled anew?")
        return 1
    return 1 if any(usage.spills for usage in usages) else 0


if __name__ == "__main__":
    raise SystemExit(main())
