"""Log-weights of a bank's rows: log w = rho · log vol(z) + log target(z) - log law(z).

Draws then follow target(z) · vol(z)^rho: Polarity Sampling (arXiv 2203.01993), and for a uniform target with
rho = 1 MaGNET (arXiv 2110.08009). Everything stays in logarithms: vol^rho spans hundreds of nats in practice.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from polarity_sampling.errors import BankError, PolarityWarning, SamplingError
from polarity_sampling.laws import Law, Sphere
from polarity_sampling.samplers.protocol import BankLike
from polarity_sampling.samplers.selection import Floats, Ints

Target = Literal["base", "uniform", "proposal"]
Flagged = Literal["drop", "keep"]

MAX_EXCLUDED = 0.01
_DENSITY_CHUNK = 1 << 16


@dataclass(frozen=True)
class Tilt:
    """The m rows of a bank that can be drawn, with the two parts of their log-weights."""

    rows: Ints
    """[m] positions in the bank, ascending."""
    log_volume: Floats
    """[m]."""
    log_ratio: Floats
    """[m], log target(z) - log law(z) up to a constant."""
    labels: Ints | None
    """[m]."""
    excluded: int
    """Rows of the bank left out for want of a trustworthy log-volume."""


def logsumexp(x: Floats) -> float:
    top = float(x.max())
    return top + math.log(float(np.exp(x - top).sum()))


def tilted(log_volume: Floats, log_ratio: Floats, rho: float) -> Floats:
    """Log-weights rho · log_volume + log_ratio, normalised: the weights sum to one."""
    log_weights = _tilted(log_volume, log_ratio, rho)
    log_weights -= logsumexp(log_weights)
    return log_weights


def tilted_mean(log_volume: Floats, log_ratio: Floats, rho: float) -> float:
    """Mean log-volume under the weights of `tilted`."""
    log_weights = _tilted(log_volume, log_ratio, rho)
    log_weights -= log_weights.max()
    weights = np.exp(log_weights, out=log_weights)
    return float(weights @ log_volume) / float(weights.sum())


def _tilted(log_volume: Floats, log_ratio: Floats, rho: float) -> Floats:
    # Measured from the end that rho favours, so that no finite rho overflows upwards.
    anchor = log_volume.max() if rho > 0 else log_volume.min()
    log_weights: Floats = log_volume - anchor
    with np.errstate(over="ignore"):
        log_weights *= rho
    log_weights += log_ratio
    return log_weights


def effective_size(log_weights: Floats) -> float:
    """Kish's effective sample size 1 / Σ p² of normalised log-weights."""
    return math.exp(-logsumexp(2.0 * log_weights))


def tempered_rho(log_volume: Floats, log_ratio: Floats, rho: float, min_ess: float) -> float:
    """The rho nearest to the one asked for, on the way to 0, at which the effective size is at least min_ess.

    Without a ratio the effective size falls with |rho|, so this is the largest |rho| that allows it.

    Raises SamplingError where rho = 0 does not allow it.
    """

    def suffices(r: float) -> bool:
        return effective_size(tilted(log_volume, log_ratio, r)) >= min_ess

    if suffices(rho):
        return rho
    if not suffices(0.0):
        raise SamplingError(
            f"min_ess={min_ess:g}: even at rho=0 the effective sample size is only "
            f"{effective_size(tilted(log_volume, log_ratio, 0.0)):.3g} rows; build a larger bank"
        )
    kept, lost = 0.0, rho
    while abs(lost - kept) > 1e-6 * abs(rho):
        middle = 0.5 * (kept + lost)
        kept, lost = (middle, lost) if suffices(middle) else (kept, middle)
    return kept


def build_tilt(bank: BankLike, top_k: int, log_ratio: Floats, flagged: Flagged) -> Tilt:
    """Collect the rows that can be drawn.

    Args:
        top_k: 1 .. bank.top_k.
        log_ratio: [N] from `log_ratio`, -inf for rows outside the target.
        flagged: "drop" leaves out rows whose log-volume is below the noise floor (error = inf), "keep" only
            those whose log-volume is not a number.

    Raises:
        SamplingError: "drop" would leave out more than 1% of the bank (the message names a top_k that does
            not), or no row is left.
    """
    value, unusable = _log_volume(bank, top_k, flagged)
    excluded = int(unusable.sum())
    if flagged == "drop" and excluded > MAX_EXCLUDED * len(bank):
        raise SamplingError(_too_many_excluded(bank, top_k, excluded))
    rows = np.flatnonzero(~unusable & np.isfinite(log_ratio))
    if rows.size == 0:
        raise SamplingError(
            f"none of the bank's {len(bank)} rows has weight: {excluded} have no usable log-volume, "
            f"{int(np.isneginf(log_ratio).sum())} lie outside the target region"
        )
    labels = None if bank.labels is None else bank.labels.numpy()[rows]
    return Tilt(rows, value[rows], log_ratio[rows], labels, excluded)


def require_few_excluded(excluded: int, evaluations: int) -> None:
    """Refuse to leave out more latents than `MAX_EXCLUDED`, and than chance puts among few.

    Raises SamplingError.
    """
    expected = MAX_EXCLUDED * evaluations
    if excluded > max(2.0, expected + 4.0 * math.sqrt(expected)):
        raise SamplingError(
            f"{excluded} of {evaluations} latents have a singular value below the noise floor among "
            f"those in the log-volume; at most {MAX_EXCLUDED:.0%} may be left out. Choose a smaller top_k"
        )


def exclusion_allows(bank: BankLike, top_k: int) -> bool:
    """Whether at most 1% of the bank's rows are below the noise floor at this top_k."""
    return int(_log_volume(bank, top_k, "drop")[1].sum()) <= MAX_EXCLUDED * len(bank)


def log_ratio(bank: BankLike, target: Target, region: Law | None) -> Floats:
    """Log target density minus log density of the bank's law, float64 [N], up to a constant.

    target="base" is the generator's own latent law, "proposal" the law the bank's rows were drawn from (then
    nothing is reweighted). target="uniform" is uniform on `region`: by default the law the bank was drawn
    from where that is uniform, else the region that holds 99.9% of the base law. Latents are read only where
    a density is needed, and in chunks.

    Raises:
        ValueError: unknown target, a region that is not a uniform law or comes with target="base", or a
            target that has no density with respect to the bank's law.
        BankError: a row outside the law that the bank says it was drawn from.

    Warns:
        PolarityWarning: target="uniform" on rows drawn from a law that is not uniform.
    """
    if target not in ("base", "uniform", "proposal"):
        raise ValueError(f"target={target!r}: expected 'base', 'uniform' or 'proposal'")
    region = None if region is None else Law.of(region)
    if region is not None and (target != "uniform" or not region.uniform):
        raise ValueError(
            f"region={region!r} with target={target!r}: a region is a uniform law (ps.Ball, ps.Uniform, "
            "ps.Sphere) and needs target='uniform'"
        )
    law = bank.law
    wanted = {"base": bank.base, "proposal": law}.get(target) or region or _default_region(bank)
    if wanted == law:
        return np.zeros(len(bank))
    if isinstance(wanted, Sphere) != isinstance(law, Sphere):
        raise ValueError(
            f"target={target!r} is {wanted!r}, but the bank's rows were drawn from {law!r}: one lives on a "
            "sphere and the other does not, so no weights lead from one to the other. Use target='uniform' "
            f"without a region, or build the bank with proposal=ps.{wanted!r}"
        )
    ratio = _density_ratio(bank, wanted)
    if target == "uniform" and not law.uniform:
        _warn_reweighted(bank, wanted, ratio)
    return ratio


def _default_region(bank: BankLike) -> Law:
    return bank.law if bank.law.uniform else bank.base.region(bank.latent_dim)


def _density_ratio(bank: BankLike, wanted: Law) -> Floats:
    ratio = torch.empty(len(bank), dtype=torch.float64)
    for start in range(0, len(bank), _DENSITY_CHUNK):
        rows = bank.row_ids[start : start + _DENSITY_CHUNK]
        z = bank.latents(rows)
        chunk = wanted.log_density(z)
        if not bank.law.uniform:  # a uniform law's density is one constant: it cancels
            chunk = chunk - bank.law.log_density(z)
        bad = chunk.isnan() | chunk.isposinf()
        if bad.any():
            row = int(rows[int(bad.nonzero()[0])])
            raise BankError(
                f"row {row} of the bank has no density under {bank.law!r}, the law its rows were drawn from: "
                "the bank's law or its latents are wrong; build the bank again"
            )
        ratio[start : start + len(rows)] = chunk
    result: Floats = ratio.numpy()
    return result


def _warn_reweighted(bank: BankLike, region: Law, ratio: Floats) -> None:
    inside = ratio[np.isfinite(ratio)]
    ess = effective_size(inside - logsumexp(inside)) if inside.size else 0.0
    warnings.warn(
        f"target='uniform' reweights latents drawn from {bank.law!r} to be uniform on {region!r}; that "
        f"alone leaves an effective sample size of {ess:.3g} of {len(bank)} rows. Draw from the region "
        f"instead: Bank.build(..., proposal=ps.{region!r})",
        PolarityWarning,
        stacklevel=4,
    )


def _log_volume(bank: BankLike, top_k: int, flagged: Flagged) -> tuple[Floats, np.ndarray]:
    value, error = (x.numpy() for x in bank.log_volume(top_k))
    unusable = ~np.isfinite(value)
    if flagged == "drop":
        unusable |= np.isposinf(error)
    return value, unusable


def _too_many_excluded(bank: BankLike, top_k: int, excluded: int) -> str:
    # A row is flagged when any of its leading top_k singular values is, so the count grows with top_k.
    works, fails = 0, top_k
    while fails - works > 1:
        middle = (works + fails) // 2
        if exclusion_allows(bank, middle):
            works = middle
        else:
            fails = middle
    remedy = (
        f"top_k={works} works with this bank"
        if works
        else "no top_k works with this bank: too many rows have the first below it already, where samples "
        "do not depend on the latent or are not finite"
    )
    return (
        f"top_k={top_k}: {excluded} of {len(bank)} rows ({excluded / len(bank):.1%}) have a singular value "
        f"below the noise floor among the first {top_k}; at most {MAX_EXCLUDED:.0%} may be left out. {remedy}"
    )
