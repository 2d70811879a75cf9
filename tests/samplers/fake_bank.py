"""A bank in memory, with singular values as told."""

import numpy as np
import torch
from polarity_sampling.laws import Law, Normal, Sphere
from torch import Tensor


class FakeBank:
    """Rows drawn from `law`, with singular values [N, k]; below `floor` they are noise."""

    def __init__(
        self,
        singular_values,
        *,
        law: Law | None = None,
        base: Law | None = None,
        latent_dim: int | None = None,
        labels=None,
        num_classes: int | None = None,
        floor: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.singular_values = torch.as_tensor(np.asarray(singular_values), dtype=torch.float64)
        self.base = base or Normal()
        self.law = law or self.base
        self.latent_dim = latent_dim or self.singular_values.shape[1]
        self.directions = self.latent_dim - isinstance(self.base, Sphere)
        self.labels = None if labels is None else torch.as_tensor(np.asarray(labels), dtype=torch.int64)
        self.num_classes = num_classes
        self.floor = floor
        self.seed = seed
        self.latent_reads = 0

    @classmethod
    def of_log_volumes(cls, log_volume, **options) -> "FakeBank":
        """A bank with one singular value per row, kept as its logarithm: any number of nats."""
        bank = cls(np.ones((len(log_volume), 1)), **options)
        value = torch.as_tensor(np.asarray(log_volume), dtype=torch.float64)
        bank.log_volume = lambda top_k=None: (value, torch.zeros(len(value), dtype=torch.float64))
        return bank

    @classmethod
    def of_generator(cls, singular_values, n, **options) -> "FakeBank":
        """n rows whose singular values [n, k] are a function of the latents."""
        bank = cls(np.ones((n, 1)), **options)
        bank.singular_values = singular_values(bank.latents(bank.row_ids).double())
        return bank

    def __len__(self) -> int:
        return len(self.singular_values)

    @property
    def top_k(self) -> int:
        return self.singular_values.shape[1]

    @property
    def row_ids(self) -> Tensor:
        return torch.arange(len(self))

    def log_volume(self, top_k: int | None = None) -> tuple[Tensor, Tensor]:
        sigma = self.singular_values[:, :top_k]
        error = torch.zeros(len(self), dtype=torch.float64)
        error[(sigma < self.floor).any(1)] = float("inf")
        return sigma.clamp(min=self.floor).log().sum(1), error

    def latents(self, rows: Tensor) -> Tensor:
        self.latent_reads += len(rows)
        return self.law.draw(self.seed, rows, self.latent_dim)


def log_normal_bank(n: int, k: int = 1, scale: float = 1.0, seed: int = 0, **options) -> FakeBank:
    """Log singular values independent and normal with standard deviation `scale`."""
    rng = np.random.default_rng(seed)
    return FakeBank(np.exp(scale * rng.standard_normal((n, k))), **options)
