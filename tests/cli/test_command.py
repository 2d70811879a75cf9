"""How commands end, on commands made for the purpose."""

import warnings
from collections.abc import Callable

import polarity_sampling as ps
import pytest
import typer
from polarity_sampling.cli.command import Command
from typer.testing import CliRunner, Result


def run(body: Callable[[], None], *words: str) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("it", cls=Command)(body)

    @app.callback()
    def root(debug: bool = False) -> None: ...

    return CliRunner().invoke(app, [*words, "it"])


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ps.BankError("no bank"), 1, "error: no bank\n"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (ImportError("no matplotlib"), 1, "error: no matplotlib\n"),
        (ValueError("rho=nan"), 2, "error: rho=nan\n"),
        (TypeError("rho='a'"), 2, "error: rho='a'\n"),
        (KeyboardInterrupt("stopped with 3 rows"), 130, "interrupted: stopped with 3 rows\n"),
    ],
)
def test_errors_meant_for_people(error: BaseException, status: int, line: str) -> None:
    result = run(raising(error))
    assert (result.exit_code, result.stderr, result.stdout) == (status, line, "")


def test_other_errors_are_named_and_point_to_debug() -> None:
    error = ZeroDivisionError("by zero")
    error.add_note("while making the generator")
    result = run(raising(error))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ZeroDivisionError: by zero (while making the generator)")
    assert "--debug" in result.stderr


def test_debug_lets_the_error_through() -> None:
    error = ps.BankError("no bank")
    assert run(raising(error), "--debug").exception is error


def test_exit_passes() -> None:
    assert run(raising(typer.Exit(7))).exit_code == 7


def test_warnings_of_the_package_are_one_line() -> None:
    def body() -> None:
        warnings.warn("few rows [carry] the weight", ps.PolarityWarning, stacklevel=1)
        warnings.warn("few rows [carry] the weight", ps.PolarityWarning, stacklevel=1)

    result = run(body)
    assert result.exit_code == 0
    assert result.stderr == 2 * "warning: few rows [carry] the weight\n"


def test_other_warnings_go_the_usual_way() -> None:
    def body() -> None:
        warnings.warn("elsewhere", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="elsewhere"):
        run(body)
