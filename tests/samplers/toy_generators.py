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


def flat(samples: Tensor) -> Tensor:
    """Features: the sample itself."""
    return samples.flatten(1)


def small_is_real(samples: Tensor, label: Tensor | None) -> Tensor:
    """A discriminator: logits that fall with the distance from the origin."""
    return 1.0 - samples.flatten(1).norm(dim=1)
