"""The root of the command, and what all commands share: version, --debug."""

from __future__ import annotations

from typing import Annotated

import typer

from polarity_sampling.cli import bank, models
from polarity_sampling.cli.command import Command
from polarity_sampling.cli.demo import demo
from polarity_sampling.cli.info import info
from polarity_sampling.cli.sample import sample
from polarity_sampling.cli.smc import smc

app = typer.Typer(
    name="polarity",
    help="Control what a pretrained generator samples: quality at rho < 0, diversity at rho > 0.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", cls=Command)(demo)
app.add_typer(models.app, name="models")
app.add_typer(bank.app, name="bank")
app.command("sample", cls=Command)(sample)
app.command("smc", cls=Command)(smc)
app.command("info", cls=Command)(info)


def _show_version(wanted: bool) -> None:
    if wanted:
        import polarity_sampling

        typer.echo(f"polarity-sampling {polarity_sampling.__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands; `Command` reads --debug from here."""


def main() -> None:
    """Entry point of `polarity`. Exit status: 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    app(prog_name="polarity")
