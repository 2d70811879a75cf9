"""Checks of the arguments that all samplers take."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np

from polarity_sampling.generator import Generator
from polarity_sampling.samplers.protocol import BankLike
from polarity_sampling.volume.latents import nonzero, why_no_more
from polarity_sampling.whole import checked_count as checked_count
from polarity_sampling.whole import checked_seed as checked_seed
from polarity_sampling.whole import whole


def checked_rho(rho: object) -> float:
    """rho as a float; TypeError unless a real number, ValueError unless finite."""
    if isinstance(rho, (bool, np.bool_)) or not isinstance(rho, Real):
        raise TypeError(f"rho={rho!r}: expected a number")
    if not math.isfinite(rho):
        raise ValueError(f"rho={rho!r}: expected a finite number (negative: quality, positive: diversity)")
    return float(rho)


def checked_rho_and_ess(rho: object, min_ess: float | None) -> float:
    """The rho to start tempering from: 1 for "auto", which makes sense only with min_ess (>= 1)."""
    if min_ess is not None and not (math.isfinite(min_ess) and min_ess >= 1.0):
        raise ValueError(f"min_ess={min_ess!r}: expected at least 1 row, or None")
    if rho != "auto":
        return checked_rho(rho)
    if min_ess is None:
        raise ValueError("rho='auto' without min_ess: pass the effective sample size that rho must keep")
    return 1.0


def checked_top_k(top_k: int | None, bank: BankLike) -> int:
    """top_k between 1 and what the bank stores; None means all. The bank itself is looked at, too."""
    if not hasattr(bank, "log_volume"):
        raise TypeError(
            f"bank is a {type(bank).__name__}; expected a bank: ps.Bank.open(path), or "
            "ps.Bank.build(generator, n)"
        )
    if top_k is None:
        return bank.top_k
    number = whole("top_k", top_k)
    if not 1 <= number <= bank.top_k:
        raise ValueError(
            f"top_k={number}: expected 1 to {bank.top_k}, the number of singular values that the bank stores "
            "per row; for more, build the bank with a larger top_k"
        )
    return number


def checked_directions(top_k: int | None, generator: Generator) -> int:
    """top_k between 1 and the number of singular values of a latent; None means all."""
    size = nonzero(generator)
    number = size if top_k is None else whole("top_k", top_k)
    if not 1 <= number <= size:
        raise ValueError(
            f"top_k={number}: expected 1 to {size}, the singular values of a latent, or None"
            f"{why_no_more(generator, size)}"
        )
    return number
