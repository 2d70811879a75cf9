"""What the demo makes of a bank: draws, pictures, a summary, and a word on what to look at."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polarity_sampling.cli.bank_report import ladder
from polarity_sampling.cli.command import say, stdout
from polarity_sampling.cli.demo_plan import Plan, plan
from polarity_sampling.errors import PolarityWarning

if TYPE_CHECKING:
    from torch import Tensor

    from polarity_sampling.bank import Bank
    from polarity_sampling.generator import Generator
    from polarity_sampling.models import ModelCard
    from polarity_sampling.report import Panel
    from polarity_sampling.samplers import BankDraw

SUMMARY = "summary.json"
_LOOK_AT = {
    "grid": "from left to right, one seed at rising rho: what the model does most surely, the model itself, "
    "what it rarely does (more variety, more failures)",
    "log_volume": "where those draws fall among the log-volumes of the bank",
    "ess": "how far rho and top_k can go with this many rows: stay above the dashed line",
}


@dataclass(frozen=True)
class Setting:
    """A generator with its bank, and where results go."""

    generator: Generator
    card: ModelCard | None
    bank: Bank
    bank_path: Path
    out: Path
    seed: int

    def samples(self, row_ids: Tensor) -> Tensor:
        """The generator's samples of bank rows [n], on the CPU."""
        labels = self.bank.labels
        z = self.bank.latents(row_ids).to(self.generator.dtype)
        return self.generator(z, None if labels is None else labels[row_ids]).cpu()


@dataclass(frozen=True)
class Outcome:
    """A draw at one rho, its samples [n, *] and the log-volumes [n] of its rows."""

    rho: float
    draw: BankDraw
    samples: Tensor
    log_volume: Tensor

    @property
    def variety(self) -> float:
        """Standard deviation over the draws, mean over a sample's entries: how much the samples differ."""
        return float(self.samples.double().std(0).mean())


def show(setting: Setting) -> None:
    """Choose top_k and rho, draw, write the pictures and the summary, and say what to look at."""
    bank = setting.bank
    count = _count(setting)
    chosen = plan(bank, count)
    say(f"top_k = {chosen.top_k} of {bank.top_k}: {chosen.reason} (of {len(bank):,} rows)")
    log_volume = bank.log_volume(chosen.top_k)[0]
    outcomes = []
    for rho in chosen.rhos:
        draw = _draw(setting, rho, chosen.top_k, count)
        outcomes.append(Outcome(rho, draw, setting.samples(draw.row_ids), log_volume[draw.row_ids]))
    _show_table(outcomes)
    pictures = _write_pictures(setting, outcomes, chosen, count, log_volume)
    _write_summary(setting, outcomes, chosen)
    _point_at(setting, pictures, chosen)


def _count(setting: Setting) -> int:
    """Draws per panel: 5 x 5 pictures, 6 x 6 small ones, or a cloud of points."""
    shape = setting.samples(setting.bank.row_ids[:1]).shape[1:]
    if len(shape) == 1 and shape[0] == 2:
        return min(256, max(16, len(setting.bank) // 8))
    return 36 if len(shape) > 1 and shape[-1] <= 32 else 25


def _draw(setting: Setting, rho: float, top_k: int, count: int) -> BankDraw:
    from polarity_sampling.samplers import MagnetSampler, PolaritySampler

    if rho != 1.0:
        return PolaritySampler(setting.bank, rho, top_k).sample(count, setting.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolarityWarning)  # top_k < K: `_point_at` says so
        sampler = MagnetSampler(setting.bank, top_k)
    return sampler.sample(count, setting.seed)


def _show_table(outcomes: Sequence[Outcome]) -> None:
    from rich.table import Table

    from polarity_sampling.report.style import size_text

    table = Table()
    for heading in ("rho", "draws", "ESS", "realised rho", "mean log-volume", "variety"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        figures = outcome.draw.diagnostics
        table.add_row(
            "1 (MaGNET)" if outcome.rho == 1.0 else f"{outcome.rho:g}",
            str(figures.n),
            size_text(figures.ess),
            f"{figures.realised_rho:.2f}",
            f"{float(outcome.log_volume.mean()):.2f}",
            f"{outcome.variety:.3f}",
        )
    stdout().print(table)
    say("variety: standard deviation of a sample's entries over the draws")


def _write_pictures(
    setting: Setting, outcomes: Sequence[Outcome], chosen: Plan, count: int, log_volume: Tensor
) -> dict[str, Path]:
    """The pictures' paths by name; no grid where the samples cannot be shown."""
    from polarity_sampling.report import ess_figure, grid_figure, log_volume_figure, save

    bounds = setting.card.value_range if setting.card else None
    drawn = {outcome.rho: outcome.log_volume for outcome in outcomes}
    curves = sorted({*ladder(setting.bank.top_k), chosen.top_k})
    figures = {
        "grid": grid_figure([_panel(outcome, len(setting.bank)) for outcome in outcomes], bounds),
        "log_volume": log_volume_figure(log_volume, drawn, chosen.top_k),
        "ess": ess_figure(setting.bank, curves, chosen.top_k, count, chosen.rhos),
    }
    paths = {}
    for name, figure in figures.items():
        if figure is not None:
            paths[name] = setting.out / f"{name}.png"
            save(figure, paths[name])
    return paths


def _panel(outcome: Outcome, rows: int) -> Panel:
    from polarity_sampling.report import Panel, rho_text
    from polarity_sampling.report.style import size_text

    title = f"MaGNET ({rho_text(outcome.rho)})" if outcome.rho == 1.0 else rho_text(outcome.rho)
    caption = f"ESS {size_text(outcome.draw.diagnostics.ess)} of {rows:,}"
    return Panel(outcome.samples, title, caption, outcome.rho)


def _write_summary(setting: Setting, outcomes: Sequence[Outcome], chosen: Plan) -> None:
    from polarity_sampling.bank.files import write_atomically

    card, bank = setting.card, setting.bank
    summary: dict[str, Any] = {
        "model": setting.generator.name,
        "licence": card.licence if card else None,
        "data": card.data if card else None,
        "bank": {"path": setting.bank_path.name, "rows": len(bank), "top_k": bank.top_k},
        "seed": setting.seed,
        "top_k": chosen.top_k,
        "why_top_k": chosen.reason,
        "draws": [
            {
                "rho": outcome.rho,
                "sampler": "magnet" if outcome.rho == 1.0 else "polarity",
                "n": outcome.draw.diagnostics.n,
                "ess": outcome.draw.diagnostics.ess,
                "max_weight": outcome.draw.diagnostics.max_weight,
                "pareto_k": _finite(outcome.draw.diagnostics.pareto_k),
                "realised_rho": _finite(outcome.draw.diagnostics.realised_rho),
                "excluded": outcome.draw.diagnostics.excluded,
                "mean_log_volume": float(outcome.log_volume.mean()),
                "variety": outcome.variety,
                "row_ids": outcome.draw.row_ids.tolist(),
            }
            for outcome in outcomes
        ],
    }
    write_atomically(setting.out / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _point_at(setting: Setting, pictures: dict[str, Path], chosen: Plan) -> None:
    from rich.table import Table
    from rich.text import Text

    bank = setting.bank
    table = Table.grid(padding=(0, 2))
    for name, path in pictures.items():
        table.add_row(Text(str(path), style="bold", overflow="fold"), Text(_LOOK_AT[name]))
    table.add_row(
        Text(str(setting.out / SUMMARY), style="bold", overflow="fold"),
        Text("all figures, and the rows drawn"),
    )
    say("look at", "bold")
    stdout().print(table)
    if "grid" not in pictures:
        say(
            "no grid: the samples are neither pictures ([C, H, W] with C of 1 or 3, or [H, W]) nor points in "
            "the plane"
        )
    if chosen.top_k < bank.top_k or not bank.base.uniform:
        say(_what_magnet_is(bank, chosen.top_k))
    say("more draws from the same bank:")
    say(
        f"  polarity sample --bank {setting.bank_path} --rho {chosen.rhos[0]:g} --top-k {chosen.top_k} -n 16 "
        "--out more.npz"
    )


def _what_magnet_is(bank: Bank, top_k: int) -> str:
    text = "MaGNET here"
    if top_k < bank.top_k:
        text += f" evens out the {top_k} leading directions of {bank.top_k}"
    if bank.base.uniform:
        return f"{text}; a larger bank allows more."
    joint = " and" if top_k < bank.top_k else ""
    return (
        f"{text}{joint} starts from {bank.base}, as the published code does. For draws uniform on the image "
        "of a region, draw the bank from it: polarity bank build --proposal ball"
    )
