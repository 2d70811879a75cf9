"""Generators of the benchmarks: those in the folder of pretrained models, and three that need none."""

from pathlib import Path

import polarity_sampling as ps
import torch
from torch import Tensor, nn

from benchmarks.jacobian.models import WORKLOADS
from benchmarks.volume.one_step import PIXELS, UNet
from tests import shared_models

# Too large for anything but their own timing.
STYLEGAN2, ONE_STEP = "stylegan2_64px", "one_step_32px"
PRETRAINED = [name for name in shared_models.NAMES if isinstance(name, str)]


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


# Networks of the Jacobian benchmarks, under the names of these.
_SHARED_WORKLOADS = {"mlp_64_256_256_784": "mlp", STYLEGAN2: "stylegan2-scaled"}


def load(name: str, device: str = "cpu") -> ps.Generator:
    """The same weights on every device."""
    if name == "planted_512":
        made = ps.Generator(_Decaying().eval(), 512)
    elif name == ONE_STEP:
        torch.manual_seed(0)
        made = ps.Generator(UNet().eval(), 3 * PIXELS**2)
    elif name in _SHARED_WORKLOADS:
        made = WORKLOADS[_SHARED_WORKLOADS[name]].make()
    else:
        made = shared_models.load(name)
    return ps.Generator(made.module.to(device), made.latent_dim, made.base, made.num_classes, name=name)


NAMES = ["mlp_64_256_256_784", "planted_512", *PRETRAINED]
SEED = 2024


def latents(
    generator: ps.Generator, start: int, count: int, seed: int = SEED
) -> tuple[Tensor, Tensor | None]:
    """Draws `start` .. of a stream of their own, classes in turn; the same numbers on every device."""
    rows = torch.arange(start, start + count)
    z = generator.base.draw(seed, rows, generator.latent_dim).to(generator.device)
    classes = generator.num_classes
    return z, None if classes is None else (rows % classes).to(generator.device)


def some_directions(generator: ps.Generator) -> int:
    """The top_k that low-rank routes are asked for: 10, or a quarter of K where that is less."""
    return max(1, min(10, generator.latent_dim // 4))


RESULTS = Path(__file__).parent / "results"
