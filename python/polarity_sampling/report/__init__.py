"""Figures of draws and banks. Needs matplotlib (`pip install 'polarity-sampling[demo]'`)."""

from polarity_sampling.report.figures import ess_figure, log_volume_figure
from polarity_sampling.report.grid import Panel, grid_figure
from polarity_sampling.report.pictures import as_pictures, mosaic, value_range
from polarity_sampling.report.style import rho_text, save

__all__ = [
    "Panel",
    "as_pictures",
    "ess_figure",
    "grid_figure",
    "log_volume_figure",
    "mosaic",
    "rho_text",
    "save",
    "value_range",
]
