"""`polarity smc`: draw without a bank, by sequential Monte Carlo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarity_sampling.cli.arguments import parse_label, parse_proposal, parse_top_k, place, require_new
from polarity_sampling.cli.bank import Device, Model
from polarity_sampling.cli.command import say, stdout
from polarity_sampling.cli.sample import Label, Out, require_suffixes, write_draw

if TYPE_CHECKING:
    from polarity_sampling.samplers import SMCDiagnostics, SMCSampler


def smc(
    model: Model,
    out: Out = None,
    rho: Annotated[float, typer.Option(help="Polarity: < 0 quality, > 0 diversity.")] = 1.0,
    top_k: Annotated[
        str, typer.Option(metavar="auto|all|K", help="Leading singular values in the volume.")
    ] = "auto",
    n: Annotated[int, typer.Option("--n", "-n", help="Draws.")] = 64,
    seed: Annotated[int, typer.Option(help="Stream of random numbers.")] = 0,
    label: Label = None,
    law: Annotated[
        str,
        typer.Option(
            metavar="LAW",
            help="Tilt this law, not the model's own: ball (the region of MaGNET), truncated_normal:1.5, "
            "uniform:-1,1, none.",
        ),
    ] = "none",
    particles: Annotated[int, typer.Option(help="Latents that move together.")] = 1024,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to keep the run in: once interrupted, the same call goes on.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    device: Device = None,
) -> None:
    """Draw latents with any rho, without a bank; write images, latents or both.

    Costs some 10 to 100 log-volumes per particle before the first draw, then a few per draw.
    """
    from polarity_sampling.models import load_spec
    from polarity_sampling.samplers import SMCSampler

    paths = out or []
    require_suffixes(paths)
    require_new(paths, force)
    generator = load_spec(model)
    place(generator, device)
    sampler = SMCSampler(
        generator,
        rho,
        parse_top_k(top_k),  # type: ignore[arg-type]
        law=parse_proposal(law, generator),
        particles=particles,
    )
    try:
        draw = next(sampler.stream(n, seed, parse_label(label), checkpoint))
    except KeyboardInterrupt:
        if checkpoint is None or not checkpoint.exists():
            raise
        raise KeyboardInterrupt(f"the run is kept in {checkpoint}; the same command goes on there") from None
    for path in paths:
        write_draw(path, draw, generator, None, rho)
        say(f"wrote {path}")
    _show(draw.diagnostics, sampler)


def _show(diagnostics: SMCDiagnostics, sampler: SMCSampler) -> None:
    from rich.table import Table
    from rich.text import Text

    volume = diagnostics.agreement["log_volume"]
    rows = {
        "draws": f"{diagnostics.n:,}, rho={sampler.rho:g}, top_k={sampler.top_k or 'all'}",
        "ESS": f"{diagnostics.ess:,.1f}",
        "log-volumes": f"{diagnostics.evaluations:,} computed, {diagnostics.screenings:,} more roughly",
        "ladder": " -> ".join(f"{rung.rho:.2g}" for rung in diagnostics.ladder),
        "unique ancestors": f"{diagnostics.unique_ancestors:,}",
        "R-hat": f"{volume.r_hat:.3f} of the log-volume over {sampler.settings.islands} islands",
        "excluded": f"{diagnostics.excluded} latents below the noise floor",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    stdout().print(table)
