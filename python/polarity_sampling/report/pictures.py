"""Samples as pictures: what can be shown, in which colours, and side by side in one array."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]

# A side below this many pixels is enlarged by a whole factor: MNIST digits are 28 pixels wide.
_SMALL = 48
_GAP = 2


def value_range(samples: Tensor) -> tuple[float, float]:
    """The interval that samples [n, *] are meant to fill: (0, 1), (-1, 1), or from their least to largest."""
    low, high = (float(value) for value in torch.aminmax(samples))
    slack = 1e-3
    if low >= -slack and high <= 1.0 + slack:
        return 0.0, 1.0
    if low >= -1.0 - slack and high <= 1.0 + slack:
        return -1.0, 1.0
    return low, high


def as_pictures(samples: Tensor, bounds: tuple[float, float] | None = None) -> Pixels | None:
    """Samples as 8-bit pictures [n, H, W, C], or None where they are not pictures.

    Args:
        samples: [n, C, H, W] with C of 1 or 3, or [n, H, W].
        bounds: values of black and white; default `value_range(samples)`.
    """
    x = samples.detach().cpu().double()
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < 2:
        return None
    low, high = bounds or value_range(x)
    x = (x - low) / max(high - low, 1e-12)
    pixels: Pixels = (255.0 * x.clamp(0.0, 1.0)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def mosaic(pictures: Pixels, columns: int | None = None) -> Pixels:
    """Pictures [n, H, W, C] as one array [h, w, C], row by row on white; nearly square by default."""
    n, height, width, channels = pictures.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    factor = max(1, round(_SMALL / min(height, width)))
    tiles = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = factor * height + _GAP, factor * width + _GAP
    out = np.full((rows * height - _GAP, columns * width - _GAP, channels), 255, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * height, (i % columns) * width
        out[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return out
