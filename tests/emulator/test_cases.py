"""The case table under AddressSanitizer with UndefinedBehaviorSanitizer, and under the race checker."""

import shutil
import subprocess
import sys

import pytest

from tests.emulator import build as emulator
from tests.emulator import coverage
from tests.emulator.run_cases import environment


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["asan", "checked"])
def test_no_kernel_is_reported(variant: str, seed: int) -> None:
    emulator.build(f"emulated_{variant}")
    command = [sys.executable, "-m", "tests.emulator.run_cases", variant, str(seed)]
    done = subprocess.run(
        command, cwd=emulator.ROOT, env=environment(variant), capture_output=True, text=True, timeout=300
    )
    print(done.stdout[-8000:], done.stderr[-8000:])
    assert done.returncode == 0


def test_the_case_table_reaches_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("gcov") is None:
        pytest.skip("no gcov on this machine")
    assert coverage.main() == 0, capsys.readouterr().out
