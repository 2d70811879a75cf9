"""Figures of a bank: where draws sit in the law of the log-volume, and how many rows carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from polarity_sampling.errors import SamplingError
from polarity_sampling.report.style import FAINT, INK, new_figure, rho_colour, rho_text, styled
from polarity_sampling.samplers import BankLike, effective_sample_sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_volume_figure(log_volume: Tensor, draws: Mapping[float, Tensor], top_k: int) -> Figure:
    """Histogram of a bank's log-volumes, and below it where the draws at each rho fall.

    Args:
        log_volume: [N], nats; rows that are not finite are left out.
        draws: for each rho the log-volumes [n] of the rows drawn.
        top_k: leading singular values in the log-volume, for the label.

    Raises:
        ValueError: no finite log-volume, or no draws.
        ImportError: matplotlib is not installed.
    """
    values = log_volume.double().numpy()
    values = values[np.isfinite(values)]
    if values.size == 0 or not draws:
        raise ValueError(
            f"{values.size} finite log-volumes, draws at {len(draws)} rho: expected at least one of each"
        )
    with styled():
        figure = new_figure(5.4, 2.1 + 0.24 * len(draws), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.9, 0.24 * len(draws)])
        bins = min(60, max(12, round(2.0 * values.size ** (1 / 3))))
        above.hist(values, bins=bins, color="#d4d4d4", edgecolor="white", linewidth=0.4)
        above.set_ylabel("bank rows")
        above.set_title(f"Log-volume of {values.size:,} latents, and where the draws fall", loc="left")
        above.tick_params(axis="x", length=0)
        for level, (rho, drawn) in enumerate(draws.items()):
            x = drawn.double().numpy()
            colour = rho_colour(rho)
            below.plot(x, np.full(len(x), -level), "|", color=colour, markersize=7, alpha=0.75)
            below.plot([x.mean()], [-level], "o", color=colour, markersize=4.5, markeredgecolor="white")
        below.set_yticks([-level for level in range(len(draws))], [rho_text(rho) for rho in draws])
        for label, rho in zip(below.get_yticklabels(), draws, strict=True):
            label.set_color(rho_colour(rho))
        below.set_ylim(0.7 - len(draws), 0.7)
        below.tick_params(axis="y", length=0)
        below.spines["left"].set_visible(False)
        which = "largest singular value" if top_k == 1 else f"{top_k} largest singular values"
        below.set_xlabel(f"log-volume: sum of the logs of the {which} of the Jacobian (nats)")
        return figure


def ess_figure(
    bank: BankLike, top_ks: Sequence[int], chosen: int, draws: int, marks: Sequence[float] = ()
) -> Figure:
    """Effective sample size against rho in [-1, 1], one curve for each top_k.

    Args:
        bank: N rows.
        top_ks: curves; one at which more than 1% of the rows are below the noise floor is left out.
        chosen: the top_k to bring out, among top_ks.
        draws: the number of draws wanted, as a line.
        marks: rho to mark on the chosen curve.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rhos = np.linspace(-1.0, 1.0, 81)
    with styled():
        from matplotlib import colormaps
        from matplotlib.ticker import FuncFormatter

        figure = new_figure(5.4, 3.1, layout="constrained")
        axis = figure.subplots()
        shades = colormaps["viridis"](np.linspace(0.85, 0.1, max(len(top_ks), 2)))
        for top_k, shade in zip(sorted(top_ks), shades, strict=False):
            try:
                sizes = effective_sample_sizes(bank, rhos, top_k)
            except SamplingError:
                continue
            main = top_k == chosen
            label = f"{top_k} (used)" if main else f"{top_k}"
            axis.plot(
                rhos, sizes, color=INK if main else shade, linewidth=2.2 if main else 1.1, label=label,
                zorder=3 if main else 2,
            )  # fmt: skip
        if marks:
            for rho, size in zip(marks, effective_sample_sizes(bank, marks, chosen), strict=True):
                axis.plot([rho], [size], "o", color=rho_colour(rho), markersize=5.5, zorder=4,
                          markeredgecolor="white", markeredgewidth=0.8)  # fmt: skip
        axis.axhline(draws, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), label=f"{draws} draws")
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
        axis.set_ylim(0.9, 1.3 * len(bank))
        axis.set_xlim(-1.03, 1.03)
        axis.set_xticks([-1.0, -0.5, 0.0, 0.5, 1.0])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: rho_text(x).removeprefix("ρ = ")))
        axis.set_xlabel("ρ")
        axis.set_ylabel("effective sample size (rows)")
        axis.set_title(f"How many of {len(bank):,} bank rows carry the weight", loc="left")
        axis.legend(title="top_k", loc="center left", bbox_to_anchor=(1.0, 0.5), title_fontsize=8)
        return figure
