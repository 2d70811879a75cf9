"""Singular values of batched operators and log-volumes of generators, each with a bound on its error."""

from polarity_sampling.volume.complexity import local_complexity
from polarity_sampling.volume.geometry import LocalGeometry, OutputEntropy, local_geometry, output_entropy
from polarity_sampling.volume.log_volume import LogVolume, log_volume
from polarity_sampling.volume.singular_values import SingularValues, Status
from polarity_sampling.volume.sketch import SketchedVolume, gaussian_sketch
from polarity_sampling.volume.svd import svd
from polarity_sampling.volume.top_k import auto_top_k

__all__ = [
    "LocalGeometry",
    "LogVolume",
    "OutputEntropy",
    "SingularValues",
    "SketchedVolume",
    "Status",
    "auto_top_k",
    "gaussian_sketch",
    "local_complexity",
    "local_geometry",
    "log_volume",
    "output_entropy",
    "svd",
]
