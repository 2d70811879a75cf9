"""How many effective rows a bank has, and the top_k at which it has enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polarity_sampling.errors import SamplingError
from polarity_sampling.laws import Law
from polarity_sampling.samplers.arguments import checked_count, checked_rho, checked_top_k
from polarity_sampling.samplers.magnet import default_target
from polarity_sampling.samplers.protocol import BankLike
from polarity_sampling.samplers.selection import Floats
from polarity_sampling.samplers.weights import (
    Target,
    build_tilt,
    effective_size,
    exclusion_allows,
    log_ratio,
    tilted,
)


def effective_sample_sizes(
    bank: BankLike,
    rhos: Sequence[float] | Floats,
    top_k: int | None = None,
    *,
    target: Target = "base",
    region: Law | None = None,
) -> Floats:
    """Effective sample size of the whole bank at each rho.

    Args:
        rhos: polarities, any number.
        top_k: leading singular values in the log-volume; None: all that the bank stores.
        target, region: as in PolaritySampler.

    Returns:
        float64 [len(rhos)], in rows: between 1 and len(bank).

    Raises:
        ValueError, SamplingError: as PolaritySampler.
    """
    checked = [checked_rho(rho) for rho in rhos]
    tilt = build_tilt(bank, checked_top_k(top_k, bank), log_ratio(bank, target, region), "drop")
    return np.array([effective_size(tilted(tilt.log_volume, tilt.log_ratio, rho)) for rho in checked])


def choose_top_k(
    bank: BankLike,
    n: int,
    rho: float = 1.0,
    *,
    target: Target | None = None,
    region: Law | None = None,
) -> int:
    """The largest top_k at which the bank's effective sample size is at least n.

    Args:
        n: number of draws wanted.
        rho: polarity, by default that of MaGNET.
        target, region: as in MagnetSampler, whose default target it takes.

    Returns:
        top_k, 1 .. bank.top_k; where more than 1% of rows fall below the noise floor it is passed over.

    Raises:
        ValueError: an argument out of range.
        SamplingError: no top_k does.
    """
    n, rho = checked_count("n", n), checked_rho(rho)
    ratio = log_ratio(bank, target or default_target(bank), region)
    best = 0.0
    for top_k in range(bank.top_k, 0, -1):
        if not exclusion_allows(bank, top_k):
            continue
        tilt = build_tilt(bank, top_k, ratio, "drop")
        ess = effective_size(tilted(tilt.log_volume, tilt.log_ratio, rho))
        if ess >= n:
            return top_k
        best = max(best, ess)
    raise SamplingError(
        f"no top_k gives this bank of {len(bank)} rows an effective sample size of n={n} at rho={rho:g}: the "
        f"best is {best:.3g}. Build a larger bank, ask for fewer draws or a smaller |rho|"
    )
