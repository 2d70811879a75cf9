"""What the products of a Jacobian are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from polarity_sampling.jacobian.lower import Lowered


@dataclass(frozen=True)
class Row:
    """One stage of the tangent program."""

    stage: str
    ops: tuple[str, ...]
    """The ATen operators it stands for."""
    rule: str
    """"rule", or "torch.func" for an operator without one."""
    flops: float
    """Share of the floating-point operations of a product."""
    bytes: int
    """Tangents read and written, for one probe of one latent."""


@dataclass(frozen=True)
class Explanation:
    """Stages of ``J @ V`` in order; ``J.mT @ U`` runs their transposes backwards. Prints as a table."""

    route: str
    """"captured", "torch.func" or "autograd", as `JacobianOperator.route`."""
    reason: str | None
    """Why not "captured"; None if it is."""
    rows: tuple[Row, ...]
    """Empty unless captured."""

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Operators that are left to torch.func."""
        return tuple(op for row in self.rows if row.rule == "torch.func" for op in row.ops)

    def __str__(self) -> str:
        if self.reason is not None:
            return f"{self.route} over the whole module: {self.reason}"
        header = ("stage", "ops", "rule", "flops", "bytes")
        lines = [
            (row.stage, _written(row.ops), row.rule, f"{row.flops:.1%}", f"{row.bytes:,}")
            for row in self.rows
        ]
        return _table(header, lines)


def explain(lowered: Lowered) -> tuple[Row, ...]:
    """Rows of a captured generator."""
    total = sum(link.stage.flops for link in lowered.links) or 1
    batch = lowered.batch
    return tuple(
        Row(
            stage=type(link.stage).__name__.lower(),
            ops=link.ops,
            rule="torch.func" if link.stage.fallback else "rule",
            flops=link.stage.flops / total,
            bytes=lowered.bytes_of((*link.inputs, *link.outputs)) // batch,
        )
        for link in lowered.links
    )


def _written(ops: Sequence[str]) -> str:
    """Their names in order, those that come again and again once."""
    if not ops:
        return ""
    counts = {period: _times(ops, period) for period in range(1, len(ops) // 2 + 1)}
    period = max(counts, key=lambda period: period * (counts[period] - 1), default=1)
    times = counts.get(period, 1)
    if times == 1:
        return " ".join([ops[0], *filter(None, [_written(ops[1:])])])
    names = " ".join(ops[:period])
    once = f"({names}) x {times}" if period > 1 else f"{names} x {times}"
    return " ".join([once, *filter(None, [_written(ops[period * times :])])])


def _times(ops: Sequence[str], period: int) -> int:
    """How often the first ``period`` of them come one after the other."""
    times = 1
    while ops[times * period : (times + 1) * period] == ops[:period]:
        times += 1
    return times


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    left = 3  # text; then numbers, to the right
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, *lines)
    )
