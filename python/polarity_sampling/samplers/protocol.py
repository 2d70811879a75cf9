"""What samplers need from a bank, and what users need from a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from polarity_sampling.laws import Law

if TYPE_CHECKING:
    from polarity_sampling.samplers.draw import Draw

Label = int | Sequence[int] | Tensor | str | None
"""One class, one class per draw (repeated cyclically), "balanced", or None for joint draws."""


class BankLike(Protocol):
    """N latents with their log-volumes: the part of `ps.Bank` that samplers read."""

    def __len__(self) -> int: ...

    @property
    def top_k(self) -> int:
        """Number of singular values stored per row."""

    @property
    def latent_dim(self) -> int: ...

    @property
    def directions(self) -> int:
        """Number of singular values of a latent that are not zero by construction."""

    @property
    def law(self) -> Law:
        """The law the rows were drawn from: the proposal where there was one, else the base law."""

    @property
    def base(self) -> Law:
        """The latent law of the generator."""

    @property
    def num_classes(self) -> int | None: ...

    @property
    def labels(self) -> Tensor | None:
        """int64 [N], or None for an unconditional generator."""

    @property
    def row_ids(self) -> Tensor:
        """int64 [N]."""

    def log_volume(self, top_k: int | None = None) -> tuple[Tensor, Tensor]:
        """(value, error), float64 [N] each; error is inf below the noise floor, NaN where unknown."""

    def latents(self, rows: Tensor) -> Tensor:
        """Row ids int64 [n] -> float32 [n, K]."""


class Sampler(Protocol):
    """Every sampler: the same arguments give the same draw, bit for bit."""

    def sample(self, n: int, seed: int = 0, label: Label = None) -> Draw: ...
