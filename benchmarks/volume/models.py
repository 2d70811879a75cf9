"""Generators of the benchmarks: those in the folder of pretrained models, and two that need none."""

from pathlib import Path

import polarity_sampling as ps
import torch
from torch import Tensor, nn

from tests import shared_models

PRETRAINED = [name for name in shared_models.NAMES if isinstance(name, str)]


def mlp() -> ps.Generator:
    """64-256-256-784 with ReLU, seeded weights: the network of the Jacobian benchmarks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 784), nn.Tanh()
        )
    return ps.Generator(module.eval(), 64, name="mlp_64_256_256_784")


class _Decaying(nn.Module):
    """z -> U diag(i^-1.5) V^T (z + tanh(M z)): K = 512, the spectrum that low-rank methods are quoted on."""

    def __init__(self) -> None:
        super().__init__()
        gen = torch.Generator().manual_seed(0)
        left = torch.linalg.qr(torch.randn(768, 512, generator=gen))[0]
        right = torch.linalg.qr(torch.randn(512, 512, generator=gen))[0]
        sigma = torch.arange(1, 513) ** -1.5
        self.weight = nn.Parameter((left * sigma) @ right.T)
        self.mix = nn.Parameter(0.02 * torch.randn(512, 512, generator=gen))

    def forward(self, z: Tensor) -> Tensor:
        return (z + torch.tanh(z @ self.mix.T)) @ self.weight.T


def load(name: str) -> ps.Generator:
    if name == "mlp_64_256_256_784":
        return mlp()
    if name == "planted_512":
        return ps.Generator(_Decaying().eval(), 512, name=name)
    return shared_models.load(name)


NAMES = ["mlp_64_256_256_784", "planted_512", *PRETRAINED]


def latents(generator: ps.Generator, start: int, count: int) -> tuple[Tensor, Tensor | None]:
    """Draws `start` .. of a stream of their own, classes in turn."""
    rows = torch.arange(start, start + count)
    z = generator.base.draw(2024, rows, generator.latent_dim)
    return z, None if generator.num_classes is None else rows % generator.num_classes


def some_directions(generator: ps.Generator) -> int:
    """The top_k that low-rank routes are asked for: 10, or a quarter of K where that is less."""
    return max(1, min(10, generator.latent_dim // 4))


RESULTS = Path(__file__).parent / "results"
