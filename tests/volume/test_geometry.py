"""Descriptors of surfaces whose geometry is known in closed form."""

import math

import polarity_sampling as ps
import pytest
import torch
from torch import Tensor, nn

from tests.manifolds import ALL, Affine, SpherePatch, SwissRoll, Torus


@pytest.mark.parametrize("manifold", ALL, ids=lambda m: type(m).__name__)
def test_scaling_and_density_of_closed_forms(manifold):
    g = ps.Generator(manifold, 2, manifold.law)
    z = manifold.law.draw(1, torch.arange(100), 2)
    geometry = ps.local_geometry(g, z)
    truth = manifold.log_volume(z.double())
    assert ((geometry.scaling - truth).abs() <= geometry.error).all()
    assert (geometry.rank == 2).all()
    torch.testing.assert_close(geometry.log_density, manifold.law.log_density(z) - geometry.scaling)
    assert ((geometry.effective_rank >= 1) & (geometry.effective_rank <= 2 + 1e-12)).all()


def test_effective_rank():
    """sigma = (3, 1): shares 3/4 and 1/4."""
    g = ps.Generator(nn.Linear(2, 4, bias=False), 2)
    with torch.no_grad():
        g.module.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
    geometry = ps.local_geometry(g, torch.randn(2, 2))
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert (geometry.effective_rank - expected).abs().max() < 1e-6


def test_a_flat_direction_lowers_the_rank():
    class Cylinder(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.stack([z[:, 0].sin(), 2.0 * z[:, 0].cos(), z[:, 1], z[:, 1]], 1)

    z = torch.randn(20, 3)
    geometry = ps.local_geometry(ps.Generator(Cylinder(), 3), z)
    circle = 0.5 * (z[:, 0].double().cos().square() + 4.0 * z[:, 0].double().sin().square()).log()
    assert (geometry.rank == 2).all()
    assert ((geometry.scaling - circle - 0.5 * math.log(2.0)).abs() <= geometry.error).all()
    assert torch.isnan(geometry.log_density).all()


AREA = {  # closed forms of the entropy under each manifold's own law
    "Torus": (Torus(), 2 * math.log(2 * math.pi) + math.log((3 + math.sqrt(8)) / 2)),
    "Affine": (Affine(), 1 + math.log(2 * math.pi)),
    "SwissRoll": (SwissRoll(), None),
    "SpherePatch": (SpherePatch(), None),
}


@pytest.mark.parametrize("name", AREA)
def test_entropy_of_closed_forms(name, seed):
    manifold, truth = AREA[name]
    if truth is None:  # the mean of the log area element by quadrature
        law = manifold.law
        u = torch.linspace(law.low, law.high, 200_001, dtype=torch.float64)
        z = torch.stack([u, u], 1)
        truth = 2 * math.log(law.high - law.low) + float(torch.trapezoid(manifold.log_volume(z), u)) / (
            law.high - law.low
        )
    found = ps.output_entropy(ps.Generator(manifold, 2, manifold.law), n=2000, seed=seed)
    assert abs(found.value - truth) <= 5 * found.standard_error + found.error
    assert 0 < found.standard_error < 0.05
    assert found.dimension == 2


def test_no_entropy_without_a_density():
    module = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 6)).eval()
    with pytest.raises(ps.GeneratorError, match="rank 2 to 2, below the latent dimension 4"):
        ps.output_entropy(module, n=8)
    with pytest.raises(ValueError, match="n is 1"):
        ps.output_entropy(module, n=1)
