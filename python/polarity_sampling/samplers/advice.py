"""What to do when too few rows of a bank carry the weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from polarity_sampling.samplers.draw import BankDiagnostics
from polarity_sampling.samplers.strata import Stratum
from polarity_sampling.samplers.weights import effective_size

Strata = Sequence[Stratum]


def advice(
    strata: Strata,
    at_top_k: Callable[[int], Strata],
    diagnostics: BankDiagnostics,
    *,
    rho: float,
    top_k: int,
    bank_rows: int,
    replace: bool,
) -> str | None:
    """A warning with remedies, or None where the effective sample size is at least the number of draws.

    Args:
        strata: the draws in question; with classes, each class needs an ESS of its own draws.
        at_top_k: the same draws with the log-volume over fewer singular values.
    """
    sizes = diagnostics.class_ess.values() if diagnostics.class_ess else [diagnostics.ess]
    ess, worst = min(zip(sizes, strata, strict=True), key=lambda pair: pair[0] / len(pair[1].slots))
    draws = len(worst.slots)
    if ess >= draws:
        return None
    of_class = "" if worst.label is None else f" of class {worst.label}"
    effect = (
        f"the draws repeat few rows (largest weight {math.exp(worst.log_weights(rho).max()):.1%})"
        if replace
        else f"the draws follow rho={diagnostics.realised_rho:.2g} rather than {rho:g}"
    )
    remedies = [f"a bank of about {_up(bank_rows * draws / ess):,} rows or more"]
    if (smaller := _largest_rho(strata, rho)) is not None:
        remedies.append(f"rho={smaller:g}")
    if (fewer := _largest_top_k(at_top_k, rho, top_k)) is not None:
        remedies.append(f"top_k={fewer}")
    if ess >= 2:
        remedies.append(f"at most {math.floor(ess)} draws{of_class}")
    return (
        f"effective sample size {ess:.3g} of {len(worst.rows):,} rows{of_class} for {draws:,} draws at "
        f"rho={rho:g}, top_k={top_k}: {effect}. Any one of these helps: {'; '.join(remedies)}"
    )


def _suffices(strata: Strata, rho: float) -> bool:
    return all(effective_size(stratum.log_weights(rho)) >= len(stratum.slots) for stratum in strata)


def _largest_rho(strata: Strata, rho: float) -> float | None:
    """The rho nearest to the one asked for, on the way to 0, that suffices; rounded to two digits."""
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _suffices(strata, middle * rho) else (low, middle)
    if low == 0.0:
        return None
    found = low * rho
    unit = 10.0 ** (math.floor(math.log10(abs(found))) - 1)
    return math.trunc(found / unit) * unit


def _largest_top_k(at_top_k: Callable[[int], Strata], rho: float, top_k: int) -> int | None:
    return next((k for k in range(top_k - 1, 0, -1) if _suffices(at_top_k(k), rho)), None)


def _up(count: float) -> int:
    """Rounded up to two digits."""
    unit: int = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit
