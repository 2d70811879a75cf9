"""The picture of `efficiency.csv`: effective draws per 1,000 exact log-volumes, burn-in apart."""

from __future__ import annotations

import csv
from pathlib import Path

from polarity_sampling.report.style import FAINT, new_figure, save, styled

COLOURS = {"bank": FAINT, "reference": "#8db4dc", "SMC": "#1f5fa8"}
LABELS = {"bank": "bank", "reference": "SMC, no screens", "SMC": "SMC"}


def main(table: Path, out: Path) -> None:
    """Read the table, write the picture."""
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["sampler"] in COLOURS]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    with styled():
        figure = new_figure(5.4, 0.6 + 0.44 * len(cases), layout="constrained")
        axis = figure.subplots()
        for row in rows:
            level = cases.index(row["case"]) + 0.26 * (list(COLOURS).index(row["sampler"]) - 1)
            value = float(row["per_1000_evaluations"])
            label = LABELS[row["sampler"]] if row["case"] == cases[0] else None
            axis.barh(level, value, 0.24, color=COLOURS[row["sampler"]], label=label)
            burn_in = f", after {int(row['burn_in']):,}" if int(row["burn_in"]) else ""
            at_most = "at most " if row["bound"] else ""
            axis.text(1.08 * value, level, f"{at_most}{value:.3g}{burn_in}", va="center", fontsize=6)
        axis.set_xscale("log")
        axis.set_xlim(right=8000)
        axis.set_yticks(range(len(cases)), [_title(case) for case in cases])
        axis.invert_yaxis()
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("effective draws per 1,000 exact log-volumes, after a burn-in of so many")
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
        save(figure, out)


def _title(case: str) -> str:
    generator, top_k, rho = case.rsplit("-", 2)
    return f"{generator}\ntop {top_k.removeprefix('top')}, ρ = {rho.removeprefix('rho')}"
