"""Generators small enough that every sampler can be run on them in a moment."""

import polarity_sampling as ps
import torch
from torch import Tensor, nn


class Sheet(nn.Module):
    """R^2 -> a bent sheet in R^3, with a mapping network as style-based generators have one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.3], [-0.2, 0.8]]))
        self.mapping = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
        nn.init.constant_(self.mapping[0].weight, 0.5)
        nn.init.zeros_(self.mapping[0].bias)

    def forward(self, z: Tensor) -> Tensor:
        x, y = (z @ self.weight).unbind(1)
        return torch.stack([x, y, 0.3 * x * y + 0.2 * y.square()], 1)


class Sheets(Sheet):
    """One of three classes scales the sheet."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return super().forward(z) * (1.0 + label.to(z.dtype))[:, None]


def sheet(dtype: torch.dtype = torch.float32) -> ps.Generator:
    return ps.Generator(Sheet().to(dtype).eval(), 2)


def sheets(dtype: torch.dtype = torch.float32) -> ps.Generator:
    return ps.Generator(Sheets().to(dtype).eval(), 2, num_classes=3)


class Bent(nn.Module):
    """R^30 -> R^40 with singular values that decay, along directions that latents nearly share."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(30, 30, generator=generator) / 30**0.5)
        self.last = nn.Parameter(torch.randn(30, 40, generator=generator))
        self.scale = nn.Parameter(torch.arange(1.0, 31.0) ** -1.5)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        hidden = (z @ self.first + 0.3 * torch.tanh(z)) * self.scale
        return hidden @ self.last * (1.0 if label is None else 1.0 + label[:, None].to(z.dtype))


def bent(base: str | ps.Law = "normal", classes: int | None = None) -> ps.Generator:
    return ps.Generator(Bent().eval(), 30, base, classes)


def flat(samples: Tensor) -> Tensor:
    """Features: the sample itself."""
    return samples.flatten(1)


def small_is_real(samples: Tensor, label: Tensor | None) -> Tensor:
    """A discriminator: logits that fall with the distance from the origin."""
    return 1.0 - samples.flatten(1).norm(dim=1)
