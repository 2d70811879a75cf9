"""``python -m tests.emulator.coverage``: which lines of csrc/kernels/*.cuh the case table runs, by gcov."""

import json
import subprocess
import sys
from collections import Counter

from tests.emulator import build as emulator
from tests.emulator.run_cases import environment

WANTED = 95.0  # percent of the lines of every file


def counts() -> dict[str, Counter[int]]:
    """How often each executable line ran, by file."""
    emulator.build("emulated_coverage")
    for old in emulator.BUILD.rglob("*.gcda"):
        old.unlink()
    command = [sys.executable, "-m", "tests.emulator.run_cases", "coverage", "0"]
    subprocess.run(
        command, cwd=emulator.ROOT, env=environment("coverage"), check=True, capture_output=True, text=True
    )
    found: dict[str, Counter[int]] = {}
    for data in emulator.BUILD.rglob("*_cuda.cu.gcda"):
        gcov = ["gcov", "--json-format", "--stdout", str(data)]
        text = subprocess.run(gcov, cwd=emulator.BUILD, check=True, capture_output=True, text=True).stdout
        for file in json.loads(text)["files"]:
            lines = found.setdefault(file["file"].rpartition("csrc/")[2], Counter())
            for line in file["lines"]:
                lines[line["line_number"]] += line["count"]
    return found


def main() -> int:
    kernels = {f"kernels/{path.name}" for path in (emulator.ROOT / "csrc" / "kernels").glob("*.cuh")}
    found = {name: lines for name, lines in counts().items() if name in kernels}
    low = sorted(kernels - set(found))  # never compiled
    for name, lines in sorted(found.items()):
        missed = sorted(number for number, count in lines.items() if count == 0)
        percent = 100.0 * (len(lines) - len(missed)) / len(lines)
        low += [name] if percent < WANTED else []
        print(
            f"csrc/{name:<32} {percent:6.1f}% of {len(lines):3} lines" + (f", not {missed}" if missed else "")
        )
    if low:
        print(f"less than {WANTED}%: {', '.join(low)}")
    return 1 if low else 0


if __name__ == "__main__":
    raise SystemExit(main())
