"""``python -m benchmarks.kernels.sass LIBRARY``: is what a kernel is built around in its machine code?

LIBRARY is a shared object or an object file that carries CUDA code. The compiler may take a wide access apart
or leave a tensor core unused without a word; the table below says which instructions must be there. Exit
status 1: one is missing on some architecture, or a kernel of the table is not there at all.
"""

import argparse
import re
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

# Kernel by its demangled name, as a pattern -> beginnings of instructions that each of its instances has.
WANTED = {
    r"scale_tangents_kernel<\w+, .*Quad<\w+>": ["LDG.E.128", "STG.E.128"],
    r"mask_tangents_kernel<\w+, .*Quad<\w+>": ["LDG.E.128", "STG.E.128"],
    r"normalize_runs_kernel<\w+, .*Quad<\w+>": ["LDG.E.128", "STG.E.128"],
    r"normalize_columns_kernel<\d+, \w+, .*Quad<\w+>": ["LDG.E.128", "STG.E.128"],
    r"softmax_tangents_kernel<\w+, .*Quad<\w+>": ["LDG.E.128", "STG.E.128"],
    r"modulate_(co)?tangents_kernel<\w+, .*Quad<\w+>": ["LDG.E.128", "STG.E.128"],
    r"modulate_columns_kernel<\w+, .*Quad<\w+>": ["LDG.E.128", "STG.E.128"],
    r"upfirdn2d_kernel<\w+, true, \w+>": ["LDG.E.128", "STG.E.128"],
    r"gram_partial_kernel<": ["DMMA"],
    r"gaussian_product_kernel<": ["DFMA"],
    r"jacobi_singular_values_kernel<": ["DFMA", "SHFL.BFLY"],
    r"solve_triangular_kernel<": ["DFMA"],
    r"symmetric_tridiagonal_kernel<": ["LDG.E.128", "STG.E.128"],
    r"mlp_tangents_kernel<float": ["FFMA", "LDS"],
    r"linear_full_kernel<float": ["FFMA"],
    r"linear_tensor_kernel<": ["HMMA.1688.F32.TF32", "LDGSTS"],
}


def cuobjdump() -> str:
    """The one of the nvidia-cuda-cuobjdump package."""
    for file in files("nvidia-cuda-cuobjdump") or []:
        if file.name == "cuobjdump":
            return str(file.locate())
    raise SystemExit("the nvidia-cuda-cuobjdump package has no cuobjdump; install the dev extra again")


def instructions(library: Path) -> dict[tuple[str, str], set[str]]:
    """(kernel, architecture) -> the instructions in its code, with their modifiers."""
    text = subprocess.run([cuobjdump(), "-sass", library], capture_output=True, text=True, check=True).stdout
    found: dict[tuple[str, str], set[str]] = {}
    architecture, code = "", set[str]()
    for line in text.splitlines():
        if match := re.match(r"\s*code for (sm_\w+)|arch = (sm_\w+)", line):
            architecture = match[1] or match[2]
        elif match := re.match(r"\s*Function : (\w+)", line):
            code = found.setdefault((match[1], architecture), set())
        elif match := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)", line):
            code.add(match[1])
    names = subprocess.run(
        ["c++filt", "-p", *(name for name, _ in found)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {(name, key[1]): code for name, (key, code) in zip(names, found.items(), strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", type=Path)
    found = instructions(parser.parse_args().library)
    missing = []
    for pattern, wanted in WANTED.items():
        kernels = {key: code for key, code in found.items() if re.search(pattern, key[0])}
        if not kernels:
            missing.append(f"no kernel {pattern}")
        for (name, architecture), code in kernels.items():
            for instruction in wanted:
                if not any(there.startswith(instruction) for there in code):
                    missing.append(f"{name}, {architecture}: no {instruction}")
        print(f"{pattern:<45} {len(kernels):3} instances: {', '.join(wanted)}")
    print("\n".join(missing) or "every instruction is where it is wanted")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
