"""Draws at several rho side by side: image grids, or scatter plots of points in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polarity_sampling.report.pictures import Pixels, as_pictures, mosaic, value_range
from polarity_sampling.report.style import DPI, FAINT, new_figure, rho_colour, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Layout in pixels: margin around everything, distance between panels, room for titles and for the arrow.
_MARGIN, _BETWEEN, _TITLES, _ARROW = 24, 28, 88, 56
_LEAST_PANEL = 300
_SCATTER_PANEL = 420


@dataclass(frozen=True)
class Panel:
    """One draw: samples [n, *], what stands above them, and the rho that colours the title."""

    samples: Tensor
    title: str
    caption: str
    rho: float


def grid_figure(
    panels: Sequence[Panel], bounds: tuple[float, float] | None = None, columns: int | None = None
) -> Figure | None:
    """Panels side by side, or None where the samples are neither pictures nor points in the plane.

    Args:
        panels: samples of the same shape in all: [n, C, H, W] with C of 1 or 3, [n, H, W], or [n, 2].
        bounds: values of black and white; by default from all panels together.
        columns: pictures side by side in a panel; by default a panel is nearly square.

    Raises:
        ValueError: no panel.
        ImportError: matplotlib is not installed.
    """
    if not panels:
        raise ValueError("panels is empty: expected at least one")
    together = torch.cat([panel.samples.detach().cpu() for panel in panels])
    with styled():
        if together.ndim == 2 and together.shape[1] == 2:
            return _scatter(panels, together)
        if together.ndim in (3, 4):
            bounds = bounds or value_range(together)
        pictures = [as_pictures(panel.samples, bounds) for panel in panels]
        shown = [mosaic(each, columns) for each in pictures if each is not None]
        return _mosaics(panels, shown) if len(shown) == len(panels) else None


def _mosaics(panels: Sequence[Panel], mosaics: Sequence[Pixels]) -> Figure:
    height = mosaics[0].shape[0]
    widths = [max(each.shape[1], _LEAST_PANEL) for each in mosaics]
    figure, axes = _row_of_axes(panels, widths, height)
    for axis, pixels, width in zip(axes, mosaics, widths, strict=True):
        side = (width - pixels.shape[1]) / 2
        # One array element per pixel of the file: nothing is resampled.
        axis.imshow(
            pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels,
            cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto",
        )  # fmt: skip
        axis.set_xlim(-0.5 - side, pixels.shape[1] - 0.5 + side)
        axis.set_axis_off()
    return figure


def _scatter(panels: Sequence[Panel], together: Tensor) -> Figure:
    low, high = np.quantile(together.numpy(), [0.002, 0.998], axis=0)
    center, half = (low + high) / 2, max(float((high - low).max()) / 2 * 1.08, 1e-9)
    figure, axes = _row_of_axes(panels, [_SCATTER_PANEL] * len(panels), _SCATTER_PANEL)
    for axis, panel in zip(axes, panels, strict=True):
        x, y = panel.samples.detach().cpu().numpy().T
        axis.scatter(x, y, s=3.0, linewidths=0, alpha=0.6, color=rho_colour(panel.rho))
        axis.set_xlim(center[0] - half, center[0] + half)
        axis.set_ylim(center[1] - half, center[1] + half)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(True)
            spine.set_color("#c8c8c8")
    return figure


def _row_of_axes(panels: Sequence[Panel], widths: Sequence[int], height: int) -> tuple[Figure, list[Axes]]:
    """A figure with one titled axis per panel, sized in whole pixels, and the arrow of rho below them."""
    arrow = _ARROW if len(panels) > 1 else 0
    total = 2 * _MARGIN + sum(widths) + _BETWEEN * (len(panels) - 1)
    tall = _MARGIN + _TITLES + height + arrow + _MARGIN // 2
    figure = new_figure(total / DPI, tall / DPI)
    axes = []
    left = _MARGIN
    bottom = arrow + _MARGIN // 2
    for panel, width in zip(panels, widths, strict=True):
        axis = figure.add_axes((left / total, bottom / tall, width / total, height / tall))
        middle = (left + width / 2) / total
        figure.text(
            middle, (bottom + height + 46) / tall, panel.title,
            ha="center", va="bottom", fontsize=9, fontweight="bold", color=rho_colour(panel.rho),
        )  # fmt: skip
        figure.text(
            middle, (bottom + height + 14) / tall, panel.caption,
            ha="center", va="bottom", fontsize=7, color=FAINT,
        )  # fmt: skip
        axes.append(axis)
        left += width + _BETWEEN
    if arrow:
        _draw_arrow(figure, total, tall)
    return figure, axes


def _draw_arrow(figure: Figure, total: int, tall: int) -> None:
    from matplotlib.patches import FancyArrowPatch

    y = (_MARGIN // 2 + 14) / tall
    left, right, room = _MARGIN / total, 1.0 - _MARGIN / total, 300 / total
    figure.text(left, y, "modes: quality", ha="left", va="center", color=rho_colour(-1.0))
    figure.text(right, y, "anti-modes: diversity", ha="right", va="center", color=rho_colour(1.0))
    arrow = FancyArrowPatch(
        (left + room, y), (right - room, y),
        arrowstyle="<->", mutation_scale=9, linewidth=0.8, color=FAINT, transform=figure.transFigure,
    )  # fmt: skip
    figure.add_artist(arrow)
