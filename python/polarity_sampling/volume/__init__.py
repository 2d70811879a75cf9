"""Log-volumes of a generator's Jacobian, each with a bound on its error."""

from polarity_sampling.volume.calibration import auto_top_k
from polarity_sampling.volume.log_volume import LogVolume, log_volume

__all__ = ["LogVolume", "auto_top_k", "log_volume"]
