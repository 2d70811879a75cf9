"""Whole numbers that callers pass: counts and seeds, of Python, NumPy or torch."""

from __future__ import annotations

import operator

import numpy as np


def checked_count(name: str, value: int) -> int:
    """A whole number of at least 1."""
    number = whole(name, value)
    if number < 1:
        raise ValueError(f"{name}={number}: expected at least 1")
    return number


def checked_seed(seed: int) -> int:
    """A whole number in [0, 2^63)."""
    number = whole("seed", seed)
    if not 0 <= number < 2**63:
        raise ValueError(f"seed={number}: expected an integer in [0, 2**63)")
    return number


def whole(name: str, value: int) -> int:
    """The value as an int; TypeError unless it is a whole number by type, 2.0 and True are not."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r}: expected an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: expected an integer") from None
