"""Which rows serve which draws: one stratum for joint draws, one per class with `label=`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from polarity_sampling.errors import SamplingError
from polarity_sampling.samplers.protocol import Label
from polarity_sampling.samplers.selection import Floats, Ints
from polarity_sampling.samplers.weights import Tilt, tilted


@dataclass(frozen=True)
class Stratum:
    """Rows that are weighed against each other, and the draws they serve."""

    label: int | None
    """The class, or None for joint draws."""
    slots: Ints
    """[s] positions in 0 .. n-1 of the draws served."""
    rows: Ints
    """[m] positions in the bank."""
    log_volume: Floats
    """[m]."""
    log_ratio: Floats
    """[m], see Tilt."""
    place: int = 0
    """Of the first row in the order of all strata, so that no two of them share a random number of a row."""

    def log_weights(self, rho: float) -> Floats:
        """Log-weights [m], normalised within the stratum."""
        return tilted(self.log_volume, self.log_ratio, rho)


def stratify(tilt: Tilt, labels: Ints | None, n: int) -> list[Stratum]:
    """Split a bank's rows by the class wanted for each of n draws (labels [n]; None: joint draws).

    Raises SamplingError where a class has no row with weight.
    """
    if labels is None or tilt.labels is None:
        return [Stratum(None, np.arange(n), tilt.rows, tilt.log_volume, tilt.log_ratio)]
    by_class = np.argsort(tilt.labels, kind="stable")
    sorted_labels = tilt.labels[by_class]
    strata = []
    for label in np.unique(labels).tolist():
        first, last = np.searchsorted(sorted_labels, [label, label + 1])
        if first == last:
            raise SamplingError(
                f"label={label}: the bank has no row of this class with weight; build a larger bank, or one "
                "with a class_prior that includes the class"
            )
        members = by_class[first:last]
        slots = np.flatnonzero(labels == label)
        strata.append(
            Stratum(
                label,
                slots,
                tilt.rows[members],
                tilt.log_volume[members],
                tilt.log_ratio[members],
                int(first),
            )
        )
    return strata


def requested_labels(label: Label, n: int, num_classes: int | None) -> Ints | None:
    """The class of each of n draws, int64 [n], or None for joint draws.

    Args:
        label: one class, a sequence of classes (repeated cyclically), "balanced" (all classes in turn) or
            None.
        num_classes: of the generator; None for an unconditional one.

    Raises:
        ValueError: a class out of range, a label for an unconditional generator, an empty sequence or one
            with more entries than draws.
        TypeError: anything else.
    """
    if label is None:
        return None
    if num_classes is None:
        raise ValueError(
            f"label={label!r}: the generator is unconditional, it has no classes; leave label out"
        )
    if isinstance(label, str):
        if label != "balanced":
            raise ValueError(f"label={label!r}: expected a class, a list of classes or 'balanced'")
        wanted: list[int] = list(range(num_classes))
    elif isinstance(label, (Sequence, np.ndarray)) or (isinstance(label, Tensor) and label.ndim == 1):
        wanted = [_class(entry) for entry in label]
        if not 1 <= len(wanted) <= n:
            raise ValueError(f"label has {len(wanted)} entries for n={n} draws: expected 1 to {n}")
    else:
        wanted = [_class(label)]
    wrong = [entry for entry in wanted if not 0 <= entry < num_classes]
    if wrong:
        raise ValueError(f"label={wrong[0]}: the classes are 0 to {num_classes - 1}")
    return np.resize(np.array(wanted, dtype=np.int64), n)


def _class(entry: object) -> int:
    if isinstance(entry, (bool, np.bool_)):
        raise TypeError(f"label has the entry {entry!r}: expected an integer class")
    try:
        return operator.index(entry)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"label has the entry {entry!r}: expected an integer class") from None
