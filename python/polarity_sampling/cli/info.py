"""`polarity info`: what is installed and whether it fits together."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import typer

from polarity_sampling.cli.command import complain, say, stdout

_PACKAGES = (
    "polarity-sampling", "numpy", "scipy", "pyarrow", "arviz-stats", "safetensors", "rich", "typer",
    "matplotlib", "pillow",
)  # fmt: skip


def info() -> None:
    """Show versions, the compiled extension, devices, and problems with their remedies.

    Exit status 1 when something does not fit.
    """
    from rich.table import Table
    from rich.text import Text

    from polarity_ext.info import report
    from polarity_sampling.models.weights import cache_dir

    rows, problems = report()
    table = Table.grid(padding=(0, 2))
    for name, value in [*rows, *((name, _version(name)) for name in _PACKAGES), ("models", str(cache_dir()))]:
        table.add_row(Text(name, style="bold"), Text(value))
    stdout().print(table)
    for problem in problems:
        complain("problem", problem, "bold red")
    if problems:
        raise typer.Exit(1)
    say("everything fits", "green")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed (pip install 'polarity-sampling[demo]')"
