"""Figures that tell whether draws from a bank can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from polarity_sampling.samplers.draw import BankDiagnostics
from polarity_sampling.samplers.selection import Floats
from polarity_sampling.samplers.strata import Stratum
from polarity_sampling.samplers.weights import effective_size, tilted_mean

_MIN_ROWS = 25  # a fifth of the rows is the tail, and ArviZ fits no tail of fewer than five


def diagnose(
    strata: Sequence[Stratum],
    within: Sequence[Floats],
    rho: float,
    bank_rows: int,
    excluded: int,
    drawn_log_volume: Floats | None = None,
) -> BankDiagnostics:
    """Diagnostics of weights tilted by rho.

    Args:
        within: log-weights of each stratum, normalised within it.
        bank_rows: rows of the bank, `excluded` of which cannot be drawn.
        drawn_log_volume: [n] log-volumes of the draws; None: nothing was drawn.
    """
    n = sum(len(stratum.slots) for stratum in strata)
    shares = [len(stratum.slots) / n for stratum in strata]
    mixture = np.concatenate([math.log(share) + lw for share, lw in zip(shares, within, strict=True)])
    class_ess = {
        s.label: effective_size(lw) for s, lw in zip(strata, within, strict=True) if s.label is not None
    }
    return BankDiagnostics(
        n=0 if drawn_log_volume is None else n,
        ess=effective_size(mixture),
        evaluations=bank_rows,
        max_weight=math.exp(float(mixture.max())),
        pareto_k=pareto_k(mixture),
        realised_rho=(
            rho if drawn_log_volume is None else realised_rho(strata, shares, drawn_log_volume, start=rho)
        ),
        excluded=excluded,
        class_ess=class_ess or None,
    )


def pareto_k(log_weights: Floats) -> float:
    """Pareto shape of the right tail of log_weights [N], as in PSIS (arXiv 1507.02646); see Diagnostics."""
    from arviz_stats.base.array import array_stats

    psislw: Callable[..., tuple[Floats, Floats]] = array_stats.psislw

    rows = len(log_weights)
    if rows < _MIN_ROWS:
        return math.nan
    # The tail is the largest 3·sqrt(N) weights: hand over only as many as hold it, and have r_eff say what
    # share of all rows they are, so that ArviZ takes the same tail.
    kept = min(rows, math.ceil(16 * math.sqrt(rows)))
    largest = np.sort(np.partition(log_weights, rows - kept)[rows - kept :])
    tail = math.floor(3 * math.sqrt(rows)) if rows > 225 else rows // 5
    top, below_tail = largest[-1], largest[-tail - 1]
    quarter = largest[int(tail / 4 + 0.5) - 1 - tail]  # the tail's lower quartile, which sets the fit's scale
    if top == largest[-tail]:
        return -math.inf
    if top - quarter > 700.0:  # exp() of it is zero beside the largest weight
        return math.inf
    if quarter == below_tail:
        return math.nan
    with np.errstate(all="ignore"):
        k = float(psislw(-largest, r_eff=kept / rows)[1])
    return k if math.isfinite(k) else math.nan


def realised_rho(
    strata: Sequence[Stratum], shares: Sequence[float], drawn_log_volume: Floats, start: float
) -> float:
    """The r at which the tilted mean log-volume of the bank equals that of the draws.

    The tilted mean grows with r (its derivative is a variance), so the root is unique.
    """
    from scipy.optimize import brentq

    centers = [float(stratum.log_volume.mean()) for stratum in strata]
    center = sum(share * c for share, c in zip(shares, centers, strict=True))
    drawn = float((drawn_log_volume - center).mean())
    lowest = sum(f * (float(s.log_volume.min()) - center) for f, s in zip(shares, strata, strict=True))
    highest = sum(f * (float(s.log_volume.max()) - center) for f, s in zip(shares, strata, strict=True))
    slack = 1e-12 * (highest - lowest) + 1e-15 * abs(center)  # what rounding the means can hide
    if highest - lowest <= slack:
        return math.nan
    if drawn >= highest - slack:
        return math.inf
    if drawn <= lowest + slack:
        return -math.inf

    def excess(r: float) -> float:
        means = (tilted_mean(stratum.log_volume, stratum.log_ratio, r) - center for stratum in strata)
        return sum(share * mean for share, mean in zip(shares, means, strict=True)) - drawn

    here = excess(start)
    if here == 0.0:
        return start
    sign = -math.copysign(1.0, here)
    near, step = start, 1.0 / (highest - lowest)
    while math.isfinite(far := near + sign * step):
        if excess(far) * sign >= 0.0:
            return float(brentq(excess, near, far, xtol=1e-12, rtol=1e-9))
        near, step = far, 2.0 * step
    return sign * math.inf
