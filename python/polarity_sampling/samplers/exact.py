"""Exact log-volumes as samplers use them: of any latents, on the CPU, NaN where there is none to trust."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from polarity_sampling.generator import Generator
from polarity_sampling.memory import parse_memory
from polarity_sampling.samplers.arguments import checked_directions
from polarity_sampling.volume.log_volume import log_volume
from polarity_sampling.volume.svd import check_tol


@dataclass(frozen=True)
class ExactLogVolume:
    """Latents float32 [n, K] and labels [n] -> log-volumes float64 [n], NaN below the noise floor.

    Raises TypeError, ValueError: top_k, tol or memory is of the wrong kind or out of range.
    """

    generator: Generator
    top_k: int | None = None
    tol: float = 1e-2
    memory: str | int = "1GiB"

    def __post_init__(self) -> None:
        checked_directions(self.top_k, self.generator)
        check_tol(self.tol)
        parse_memory(self.memory)

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        dtype = self.generator.fixed_dtype or z.dtype
        found = log_volume(self.generator, z.to(dtype), label, self.top_k, tol=self.tol, memory=self.memory)
        return found.value.masked_fill(found.error.isinf(), math.nan).cpu()
