"""Do chains of SMC and of the reference follow one law? z-scores of means, quantiles and class histograms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.samplers.classes import CLASSES

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Chains:
    """Parallel chains, one in each column."""

    log_volume: Tensor
    """float64 [T, N], nats."""
    classes: Tensor
    """int64 [S, N]: of some of the states."""

    def shares(self) -> Tensor:
        """Of the ten classes, float64 [10]."""
        return torch.bincount(self.classes.flatten(), minlength=CLASSES).double() / self.classes.numel()


@dataclass(frozen=True)
class Comparison:
    """One quantity of one case, in two places."""

    case: str
    quantity: str
    """The mean log-volume; the share of log-volumes below a quantile of `beside`; that of a class."""
    of: str
    value: float
    error: float
    """Standard error, from the spread of chain means."""
    beside: str
    other_value: float
    other_error: float
    z: float


def with_reference(case: str, smc: Chains, reference: Chains) -> list[Comparison]:
    """Whether both follow one law."""
    return _compare(case, "SMC", smc, "reference", reference)


def over_time(case: str, smc: Chains) -> list[Comparison]:
    """Whether late draws are as good as early ones."""
    early, late = (
        Chains(volume, classes)
        for volume, classes in zip(smc.log_volume.tensor_split(2), smc.classes.tensor_split(2), strict=True)
    )
    return _compare(case, "SMC, second half", late, "SMC, first half", early)


def _compare(case: str, of: str, a: Chains, beside: str, b: Chains) -> list[Comparison]:
    """All quantities; those that hold nowhere or everywhere are left out."""
    pairs = {"mean": (a.log_volume, b.log_volume)}
    for q in QUANTILES:
        level = b.log_volume.quantile(q)
        pairs[f"q{100 * q:.0f}"] = (a.log_volume <= level, b.log_volume <= level)
    for c in range(CLASSES):
        pairs[f"class {c}"] = (a.classes == c, b.classes == c)
    found = []
    for quantity, (here, there) in pairs.items():
        (mean, error), (other_mean, other_error) = _estimate(here), _estimate(there)
        if both := (error**2 + other_error**2) ** 0.5:
            z = (mean - other_mean) / both
            found.append(Comparison(case, quantity, of, mean, error, beside, other_mean, other_error, z))
    return found


def _estimate(values: Tensor) -> tuple[float, float]:
    """Mean of values [T, N] and its standard error."""
    means = values.double().mean(0)
    return float(means.mean()), float(means.std()) / len(means) ** 0.5
