"""The case table with several seeds, under AddressSanitizer with UndefinedBehaviorSanitizer, under
ThreadSanitizer, and under the checker."""

import shutil
import subprocess
import sys

import pytest

from tests.emulator import build as emulator
from tests.emulator import coverage
from tests.emulator.run_cases import environment

SEEDS = {"plain": 3, "asan": 1, "tsan": 1, "checked": 1}  # in all thread orders, tsan in one
# Seconds of each build: on two cores all four are done within twelve minutes.
LIMITS = {"plain": 180, "asan": 180, "checked": 180, "tsan": 560}


@pytest.mark.slow
@pytest.mark.parametrize("variant", SEEDS)
def test_no_kernel_is_reported(variant: str, seed: int) -> None:
    emulator.build(f"emulated_{variant}")
    if variant == "tsan":
        emulator.skip_without_thread_sanitizer()
    seeds = [str(seed + i) for i in range(SEEDS[variant])]
    limit = LIMITS[variant]
    command = [sys.executable, "-m", "tests.emulator.run_cases", variant, *seeds]
    done = subprocess.run(
        command, cwd=emulator.ROOT, env=environment(variant), capture_output=True, text=True, timeout=limit
    )
    print(done.stdout[-8000:], done.stderr[-8000:])
    assert done.returncode == 0


def test_the_case_table_reaches_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("gcov") is None:
        pytest.skip("no gcov on this machine")
    assert coverage.main() == 0, capsys.readouterr().out
