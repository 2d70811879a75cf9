"""Somebody who works in float64 sets that as torch's default; generators of float32 give the same numbers."""

import copy
from collections.abc import Callable

import polarity_sampling as ps
import pytest
import torch
from torch import Tensor, nn


class Wide(nn.Module):
    """With an operator that is left to torch, and a decaying spectrum for Krylov."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.arange(1.0, 65.0, dtype=torch.float32) ** -1.5)
        self.layers = nn.Sequential(nn.Linear(64, 96, dtype=torch.float32), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z * self.scale).sort(1)[0]


class Images(nn.Module):
    """With convolutions between rectifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 40 * 9, dtype=torch.float32),
            nn.Unflatten(1, (40, 3, 3)),
            nn.ReLU(),
            nn.ConvTranspose2d(40, 36, 4, 2, 1, dtype=torch.float32),
            nn.ReLU(),
            nn.ConvTranspose2d(36, 3, 4, 2, 1, dtype=torch.float32),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


def bank(g: ps.Generator, z: Tensor) -> Tensor:
    built = ps.Bank.build(g, n=64, top_k=3, batch_size=32)
    return ps.PolaritySampler(built, rho=0.5).sample(8, seed=1).latents


USES: dict[str, Callable[[ps.Generator, Tensor], Tensor]] = {
    "products": lambda g, z: ps.jacobian(g, z).to_dense(),
    "adjoint": lambda g, z: ps.jacobian(g, z).mT @ torch.eye(96, dtype=torch.float32),
    "exact": lambda g, z: ps.log_volume(g, z).value,
    "krylov": lambda g, z: ps.log_volume(g, z, top_k=4, method="krylov").value,
    "qr": lambda g, z: ps.log_volume(g, z, top_k=4, method="qr").value,
    "relative": lambda g, z: ps.log_volume(g, z, top_k=4, tol=0.1, tol_mode="relative").value,
    "geometry": lambda g, z: ps.local_geometry(g, z).effective_rank,
    "bank": bank,
    "chain": lambda g, z: ps.SMCSampler(g, 0.5, top_k=1, particles=32).sample(4, seed=1).latents,
}


@pytest.mark.parametrize(
    ("make", "use"), [*((Wide, use) for use in USES), (Images, "products"), (Images, "exact")]
)
def test_the_default_dtype_does_not_matter(make: type[nn.Module], use: str) -> None:
    torch.manual_seed(0)
    module, z = make().eval(), torch.randn(5, 64)
    other = copy.deepcopy(module)  # nothing is known of it yet
    expected = USES[use](ps.Generator(module, 64), z)
    torch.set_default_dtype(torch.float64)
    try:
        found = USES[use](ps.Generator(other, 64), z)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
