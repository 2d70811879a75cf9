"""Figures kept for a device, and what got worse since: ratios, because times depend on the hour."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.kernels.measure import Row
from benchmarks.kernels.timing import Spread

FOLDER = Path(__file__).parent / "reference"
COLUMNS = ("op", "case", "figure", "median", "low", "high")

Key = tuple[str, str, str]  # op, case, figure
Table = dict[Key, Spread]


def table_of(passes: Sequence[Sequence[Row]]) -> Table:
    """The figures of several passes: median of the medians, quartiles that enclose all of theirs."""
    found: dict[Key, list[Spread]] = {}
    for row in (row for rows in passes for row in rows):
        for figure, spread in row.figures.items():
            found.setdefault((row.op, row.case, figure), []).append(spread)
    return {
        key: Spread(
            statistics.median(s.median for s in spreads),
            min(s.low for s in spreads),
            max(s.high for s in spreads),
        )
        for key, spreads in found.items()
    }


def write(path: Path, settings: Mapping[str, str], table: Table) -> None:
    """One line for each setting, then the table."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(settings.items())
        writer.writerow(COLUMNS)
        for key, spread in sorted(table.items()):
            writer.writerow([*key, *(f"{x:.3g}" for x in (spread.median, spread.low, spread.high))])


def read(path: Path) -> tuple[dict[str, str], Table]:
    with path.open() as file:
        lines = list(csv.reader(file))
    start = lines.index(list(COLUMNS))
    settings = dict(lines[:start])
    table = {
        (op, case, figure): Spread(*map(float, numbers)) for op, case, figure, *numbers in lines[start + 1 :]
    }
    return settings, table


def other_settings(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Why figures cannot be compared, in words; empty where they can."""
    return [
        f"{name}: {before.get(name, 'not given')} in the reference, {now.get(name, 'not given')} here"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def worse(now: Table, before: Table) -> list[Key]:
    """Figures below the reference by more than both spreads: the quartiles are apart."""
    return [key for key in now if key in before and now[key].high < before[key].low]


def better(now: Table, before: Table) -> list[Key]:
    return [key for key in now if key in before and now[key].low > before[key].high]


def line(key: Key, now: Table, before: Table) -> str:
    def text(spread: Spread) -> str:
        return f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})"

    op, case, figure = key
    return f"{op} [{case}] {figure}: {text(before[key])} -> {text(now[key])}"
