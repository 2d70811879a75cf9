"""``python -m tests.emulator.run_cases VARIANT SEED ...``: the case table on one build of the emulator.

In a process of its own, because a sanitizer must be loaded before everything else and because one
process can hold only one build of the ops. `environment` says what that process needs.
"""

import itertools
import os
import subprocess
import sys

from tests.emulator import build as emulator


def environment(variant: str) -> dict[str, str]:
    given = os.environ | {"OMP_NUM_THREADS": "1"}
    if variant == "asan":
        names = ("libasan.so", "libubsan.so", "libstdc++.so")
        paths = [
            subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip() for name in names
        ]
        given |= {
            "LD_PRELOAD": ":".join(paths),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python leaks at exit
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
    if variant == "tsan":
        library = subprocess.check_output(["g++", "-print-file-name=libtsan.so"], text=True).strip()
        # Python and torch are not instrumented: without the option, their memory is reported.
        given |= {"LD_PRELOAD": library, "TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}
    return given


def main(variant: str, seeds: list[int]) -> int:
    from tests.ops import small_rows
    from tests.ops.backends import Emulated

    library = emulator.load(emulator.BUILD / f"emulated_{variant}.so")
    passed, failed = 0, 0
    # ThreadSanitizer goes by what synchronises, not by what happens to come first, and is slow: one order,
    # and no row that is large only to have many blocks, which `checked` tells apart better.
    is_slow = variant == "tsan"
    orders = emulator.ORDERS[-1:] if is_slow else emulator.ORDERS
    largest = small_rows.LARGEST // 3 if is_slow else small_rows.LARGEST
    for order, seed in itertools.product(orders, seeds):
        emulator.schedule(library, order, seed)
        rows = small_rows.run(Emulated(f"emulated-{order}", "cpu", order=order), seed, largest)
        passed, failed = passed + rows[0], failed + rows[1]
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], [int(seed) for seed in sys.argv[2:]]))
