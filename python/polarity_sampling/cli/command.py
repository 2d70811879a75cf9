"""How every command ends: errors and warnings in one line each, and a status that says which kind."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from polarity_sampling.errors import PolarityError, PolarityWarning

# Errors whose message is written for the person at the terminal; others are named by their type.
_SPOKEN = (PolarityError, ValueError, TypeError, OSError, ImportError)


def stdout() -> Console:
    """Where results go. Made anew for each use, because tests replace the stream."""
    return Console(highlight=False)


def say(text: str = "", style: str = "") -> None:
    """Print a line, unwrapped and without markup."""
    stdout().print(Text(text, style=style), soft_wrap=True)


def complain(kind: str, text: str, style: str) -> None:
    """Print "kind: text" to stderr, the kind in colour."""
    Console(stderr=True, highlight=False).print(Text.assemble((f"{kind}: ", style), text), soft_wrap=True)


class Command(TyperCommand):
    """A command whose errors are one red line; with `polarity --debug` the traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        with warnings.catch_warnings():
            warnings.simplefilter("always", PolarityWarning)
            usual = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
                if issubclass(category, PolarityWarning):
                    complain("warning", str(message), "bold yellow")
                else:
                    usual(message, category, *where, **more)

            warnings.showwarning = show
            try:
                return super().invoke(ctx)
            except (typer.Exit, typer.Abort):
                raise
            except KeyboardInterrupt as stop:
                complain("interrupted", str(stop) or "run the command again to start over", "bold red")
                raise typer.Exit(130) from None
            except Exception as error:
                if ctx.find_root().params["debug"]:
                    raise
                _end(error)


def _end(error: Exception) -> NoReturn:
    text = str(error) if isinstance(error, _SPOKEN) and str(error) else f"{type(error).__name__}: {error}"
    notes = [f" ({note})" for note in getattr(error, "__notes__", [])]
    hint = "" if isinstance(error, _SPOKEN) else ". `polarity --debug ...` shows where"
    complain("error", text + "".join(notes) + hint, "bold red")
    raise typer.Exit(2 if isinstance(error, ValueError | TypeError) else 1)
