"""`polarity sample`: draw from a bank."""

from __future__ import annotations

import io
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarity_sampling.bank.files import write_atomically
from polarity_sampling.cli.arguments import parse_label, parse_rho, require_new
from polarity_sampling.cli.bank import OptionalModel
from polarity_sampling.cli.command import say, stdout

if TYPE_CHECKING:
    from polarity_sampling.bank import Bank
    from polarity_sampling.generator import Generator
    from polarity_sampling.samplers import BankDiagnostics, Draw, PolaritySampler

_SUFFIXES = (".png", ".npz", ".safetensors")

Out = Annotated[
    list[Path] | None,
    typer.Option("--out", "-o", help="grid.png, latents.npz or latents.safetensors; may be repeated."),
]
Label = Annotated[
    str | None, typer.Option(metavar="CLASS|C,C,...|balanced", help="Classes of a conditional model.")
]


class Target(StrEnum):
    """Law to tilt."""

    base = "base"
    uniform = "uniform"
    proposal = "proposal"


class Flagged(StrEnum):
    """Rows below the noise floor."""

    drop = "drop"
    keep = "keep"


class Method(StrEnum):
    """Draws with replacement."""

    systematic = "systematic"
    multinomial = "multinomial"


def sample(
    bank_path: Annotated[Path, typer.Option("--bank", "-b", help="The bank's directory.")],
    out: Out = None,
    rho: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|auto", help="< 0 quality, > 0 diversity; auto: 1 or what --min-ess allows."
        ),
    ] = None,
    min_ess: Annotated[
        float | None, typer.Option(help="Move rho towards 0 until this many rows carry the weight.")
    ] = None,
    magnet: Annotated[bool, typer.Option("--magnet", help="Uniform on the learned manifold.")] = False,
    top_k: Annotated[
        int | None, typer.Option(help="Leading singular values in the volume; default all that are stored.")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Draws.")] = 64,
    seed: Annotated[int, typer.Option(help="Stream of random numbers.")] = 0,
    label: Label = None,
    without_replacement: Annotated[
        bool, typer.Option("--without-replacement", help="Distinct rows; pulls the realised rho towards 0.")
    ] = False,
    method: Annotated[Method, typer.Option(help="With replacement: least variance, or independent.")] = (
        Method.systematic
    ),
    target: Annotated[
        Target | None,
        typer.Option(help="Law to tilt: the model's own, uniform on a region, or the bank's proposal."),
    ] = None,
    flagged: Annotated[Flagged, typer.Option(help="Rows below the noise floor.")] = Flagged.drop,
    model: OptionalModel = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
) -> None:
    """Draw latents from a bank; write images, latents or both, and say how far to trust them.

    Images need the generator: --model, or none if the bank was built from a registered model.
    """
    from polarity_sampling.bank import Bank
    from polarity_sampling.samplers import MagnetSampler, PolaritySampler

    paths = out or []
    require_suffixes(paths)
    if (rho is None) != magnet:
        raise ValueError("expected either --rho NUMBER or --magnet")
    if magnet and min_ess is not None:
        raise ValueError("--magnet is rho = 1: for as near to it as --min-ess allows, say --rho auto")
    require_new(paths, force)
    generator = None
    if model is not None or any(path.suffix == ".png" for path in paths):
        generator = _generator(bank_path, model)
    bank = Bank.open(bank_path, generator)
    options = {"target": None if target is None else target.value, "flagged": flagged.value}
    sampler = (
        MagnetSampler(bank, top_k, **options)  # type: ignore[arg-type]
        if rho is None
        else PolaritySampler(bank, parse_rho(rho), top_k, min_ess=min_ess, **options)  # type: ignore[arg-type]
    )
    draw = sampler.sample(n, seed, parse_label(label), not without_replacement, method.value)
    for path in paths:
        write_draw(path, draw, generator, "MaGNET" if rho is None else None, sampler.rho)
        say(f"wrote {path}")
    _show(draw.diagnostics, bank, sampler)


def _generator(bank_path: Path, model: str | None) -> Generator:
    from polarity_sampling.bank import BankMetadata
    from polarity_sampling.models import available, load_spec

    if model is None:
        made_with = BankMetadata.read(bank_path).model
        if made_with not in {card.name for card in available()}:
            raise ValueError(
                f"{bank_path} was built from {made_with!r}, which is not a registered model: name its "
                "generator with --model, or write latents only"
            )
        model = made_with
    return load_spec(model)


def require_suffixes(paths: list[Path]) -> None:
    """Raises ValueError for a name whose suffix no writer knows."""
    for path in paths:
        if path.suffix not in _SUFFIXES:
            raise ValueError(f"--out {path}: expected a name that ends in {', '.join(_SUFFIXES)}")


def write_draw(path: Path, draw: Draw, generator: Generator | None, title: str | None, rho: float) -> None:
    """Write a draw as its suffix says; pictures need the generator.

    Raises ValueError where samples are no pictures.
    """
    arrays = {"latents": draw.latents, "row_ids": draw.row_ids, "log_weights": draw.log_weights}
    if draw.labels is not None:
        arrays["labels"] = draw.labels
    if path.suffix == ".npz":
        import numpy as np

        columns: Any = {name: array.numpy() for name, array in arrays.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **columns)
        write_atomically(path, buffer.getbuffer())
    elif path.suffix == ".safetensors":
        from safetensors.torch import save as to_bytes

        write_atomically(path, to_bytes({name: array.contiguous() for name, array in arrays.items()}))
    else:
        from polarity_sampling.report import Panel, grid_figure, rho_text, save
        from polarity_sampling.report.style import size_text

        assert generator is not None
        samples = generator(draw.latents.to(generator.dtype), draw.labels).cpu()
        caption = f"ESS {size_text(draw.diagnostics.ess)}"
        figure = grid_figure([Panel(samples, title or rho_text(rho), caption, rho)])
        if figure is None:
            raise ValueError(
                f"{path}: samples of shape {list(samples.shape[1:])} are neither pictures ([C, H, W] with C "
                "of 1 or 3, or [H, W]) nor points in the plane; write .npz or .safetensors"
            )
        save(figure, path)


def _show(diagnostics: BankDiagnostics, bank: Bank, sampler: PolaritySampler) -> None:
    from rich.table import Table
    from rich.text import Text

    k = diagnostics.pareto_k
    verdict = "averages over the draws do not settle at this bank size" if k > 0.7 else "fine"
    shape = "not to be had" if math.isnan(k) else f"{k:.2f} ({verdict})"
    rows = {
        "draws": f"{diagnostics.n:,} of {len(bank):,} rows, rho={sampler.rho:.3g}, top_k={sampler.top_k} of "
        f"{bank.directions}",
        "ESS": f"{diagnostics.ess:,.1f} rows",
        "largest weight": f"{diagnostics.max_weight:.2%}",
        "Pareto k": shape,
        "realised rho": f"{diagnostics.realised_rho:.3g}",
        "excluded": f"{diagnostics.excluded} flagged rows",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    stdout().print(table)
