"""Choosing rows by weight: pure functions of log-weights and uniform numbers.

Random numbers are read from the float64 stream `polarity_ext.uniform(seed, ...)` in blocks of 2^56 numbers,
none of which reaches into another or into block 0, where latents are drawn (a bank and a sampler may share a
seed):

    block 2  shuffles, number i for draw i
    block 3  multinomial draws, number i for draw i
    block 4  systematic starts, number 0 for joint draws, number 1 + c for class c
    block 5  decisions, number r for row r of a law
    block 6  classes, number r for row r of a law

Draws without replacement have streams of their own, those of `polarity_ext.weighted_draw`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

import polarity_ext

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHUFFLE, MULTINOMIAL, START, DECISION, CLASS = (block << 56 for block in range(2, 7))


def uniforms(seed: int, offset: int, count: int) -> Floats:
    """Numbers offset .. offset + count - 1 of stream `seed`, float64 in the open interval (0, 1)."""
    numbers: Floats = polarity_ext.uniform(seed, offset, (count,), dtype=torch.float64).numpy()
    return numbers


def systematic(log_weights: Floats, start: float, shuffle: Floats) -> Ints:
    """Systematic draws with replacement: row i comes up floor or ceil of n·p_i times, n·p_i on average.

    Args:
        log_weights: [N], of any scale.
        start: one number in (0, 1).
        shuffle: [n] numbers whose ranks put the draws in random order, so that every position has law p.

    Returns:
        n indices into log_weights.
    """
    n = len(shuffle)
    chosen = _invert(log_weights, (start + np.arange(n)) / n)
    return chosen[np.argsort(shuffle, kind="stable")]


def multinomial(log_weights: Floats, numbers: Floats) -> Ints:
    """Independent draws with replacement: one index into log_weights [N] per number in (0, 1)."""
    return _invert(log_weights, numbers)


def without_replacement(log_weights: Floats, n: int, seed: int, place: int = 0) -> Ints:
    """Distinct draws, one row after the other, each in proportion to the weights of those left.

    The rows with the n largest of log-weight + Gumbel noise, in that order (Yellott 1977; Kool, van Hoof &
    Welling, arXiv 1903.06059), so the first m of n draws are a draw of m.

    Args:
        log_weights: [N], of any scale, at least n of them finite.
        n: at most N.
        seed, place: row i takes number place + i of the stream.
    """
    rows: Ints = polarity_ext.weighted_draw(torch.from_numpy(log_weights), n, seed, place).numpy()
    return rows


def _invert(log_weights: Floats, numbers: Floats) -> Ints:
    """Indices at which the cumulative weight first exceeds each number in (0, 1)."""
    cumulative = np.cumsum(np.exp(log_weights - log_weights.max()))
    # A number that rounds to one would fall off the end; rows without weight are never first to exceed.
    targets = np.minimum(numbers * cumulative[-1], np.nextafter(cumulative[-1], 0.0))
    chosen: Ints = np.searchsorted(cumulative, targets, side="right")
    return chosen
