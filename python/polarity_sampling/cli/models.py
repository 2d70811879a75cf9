"""`polarity models`: what generators there are, and getting one."""

from __future__ import annotations

from typing import Annotated

import typer

from polarity_sampling.cli.command import Command, say, stdout

app = typer.Typer(help="Pretrained generators: licences, training data, installation.", no_args_is_help=True)


@app.command("list", cls=Command)
def list_models() -> None:
    """Show the registered models with licence and training data."""
    from rich.table import Table
    from rich.text import Text

    from polarity_sampling.models import available

    for card in available():
        shape = "x".join(str(size) for size in card.output_shape)
        state = "installed" if card.installed else f"not installed: polarity models install {card.name}"
        say(f"{card.name} ({state})", "bold" if card.installed else "bold yellow")
        table = Table.grid(padding=(0, 2))
        for name, value in {
            "what": f"{card.description}; latent {card.latent_dim} -> {shape}",
            "licence": card.licence,
            "data": card.data,
            "source": card.source,
        }.items():
            table.add_row(Text(f"  {name}"), Text(value))
        stdout().print(table)
    say("Your own: --model path.py:function, a function that returns a torch.nn.Module or a ps.Generator.")


@app.command("install", cls=Command)
def install(name: Annotated[str, typer.Argument(help="Name from `polarity models list`.")]) -> None:
    """Fetch a model's weights, check them and keep them in the user's cache."""
    from polarity_sampling.models import card
    from polarity_sampling.models import install as fetch

    say(f"{name}: {fetch(name)}")
    say(f"licence: {card(name).licence}. Data: {card(name).data}.")
