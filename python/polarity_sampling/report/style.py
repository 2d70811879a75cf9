"""One look for all figures: font, sizes, and a colour that means the same rho everywhere."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polarity_sampling.bank.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
INK = "#222222"
FAINT = "#8a8a8a"
# Blue towards the modes (rho < 0), red towards the anti-modes; grey is the model itself.
_TOWARDS_MODES, _MODEL, _TOWARDS_ANTIMODES = "#1f5fa8", "#6b6b6b", "#b8322a"

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}


def styled() -> Any:
    """A context in which figures of this package are made and saved."""
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise ImportError(
            "figures need matplotlib and pillow, which are not installed: "
            "pip install 'polarity-sampling[demo]'"
        ) from error
    return rc_context(_RC)


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of width x height inches; no global state (pyplot) is touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG (or what the suffix says) at the resolution it was laid out for.

    The file is there whole or not at all. Raises BankError when the disk is full or the path is not writable.
    """
    path, buffer = Path(path), io.BytesIO()
    with styled():
        figure.savefig(buffer, dpi=figure.dpi, format=path.suffix[1:] or "png")
    write_atomically(path, buffer.getbuffer())


def rho_colour(rho: float) -> str:
    """Blue for rho < 0, grey for 0, red for rho > 0; paler for a smaller |rho|."""
    from matplotlib.colors import to_hex, to_rgb

    end = to_rgb(_TOWARDS_MODES if rho < 0 else _TOWARDS_ANTIMODES)
    strength = 0.0 if rho == 0 else 0.55 + 0.45 * min(1.0, abs(rho))
    start = to_rgb(_MODEL if rho == 0 else "#d0d0d0")
    red, green, blue = (strength * e + (1.0 - strength) * s for e, s in zip(end, start, strict=True))
    return to_hex((red, green, blue))


def rho_text(rho: float) -> str:
    """ "ρ = −0.5", with a true minus sign."""
    return f"ρ = {rho:g}".replace("-", "\N{MINUS SIGN}")


def size_text(rows: float) -> str:
    """An effective sample size for people: 3.4, 43, 1,820."""
    return f"{rows:.1f}" if rows < 10 and math.isfinite(rows) else f"{rows:,.0f}"
