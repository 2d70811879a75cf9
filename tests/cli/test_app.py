import subprocess
import sys

import polarity_sampling as ps
import pytest

from tests.cli.conftest import Polarity


def test_help_names_every_command(polarity: Polarity) -> None:
    result = polarity("--help")
    assert result.exit_code == 0
    for command in ("demo", "models", "bank", "sample", "info"):
        assert command in result.output
    for command in ("build", "info", "import", "export"):
        assert command in polarity("bank", "--help").output
    assert "install" in polarity("models", "--help").output


def test_version(polarity: Polarity) -> None:
    assert polarity("--version").output == f"polarity-sampling {ps.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [["sampel"], ["sample", "--no-such-option"], ["bank", "build"], ["bank", "build", "--model", "nothing"]],
)
def test_wrong_usage_is_status_2(polarity: Polarity, words: list[str]) -> None:
    assert polarity(*words).exit_code == 2


def test_errors_are_one_line_and_debug_shows_the_traceback() -> None:
    words = ["sample", "--bank", "nowhere", "--rho", "0"]
    plain, debug = (
        subprocess.run(
            [sys.executable, "-c", "from polarity_sampling.cli import main; main()", *more, *words],
            capture_output=True,
            text=True,
        )
        for more in ([], ["--debug"])
    )
    assert plain.returncode == 1
    assert plain.stderr.startswith("error: nowhere is not a bank")
    assert plain.stderr.count("\n") == 1
    assert plain.stdout == ""
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


def test_the_package_does_not_import_the_command() -> None:
    heavy = ("typer", "rich", "matplotlib", "pyarrow", "scipy")
    code = f"import sys, polarity_sampling; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
