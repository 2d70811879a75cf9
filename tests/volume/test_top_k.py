"""top_k="auto": a property of the generator, found with far fewer products than all."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.volume import top_k
from polarity_sampling.volume.calibration import calibration_latents
from torch import Tensor, nn

from tests import oracle


def counted(monkeypatch):
    """Latents that took all K products after the first ones."""
    calls = []
    gram = top_k.gram
    monkeypatch.setattr(top_k, "gram", lambda op, *a: calls.append(op.shape[0]) or gram(op, *a))
    return calls


def test_sees_the_rank(monkeypatch):
    torch.manual_seed(0)
    calls = counted(monkeypatch)
    layers = nn.Linear(9, 40), nn.LeakyReLU(0.2), nn.Linear(40, 5), nn.LeakyReLU(0.2), nn.Linear(5, 30)
    g = ps.Generator(nn.Sequential(*layers).eval())
    assert ps.volume.auto_top_k(g) == 5
    assert calls == []


class SometimesThin(nn.Module):
    """The fifth direction vanishes on a share of the latents, the fourth nearly, the others never."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(40, 12))[0])
        self.edge = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(share)))

    def forward(self, z: Tensor) -> Tensor:
        scale = torch.ones(12).to(z)
        scale[5:] = 0.0
        scale[3] = 3e-3
        there = torch.relu(z[:, :1] - self.edge)  # its derivative is a step
        y = z * scale
        return torch.cat([y[:, :4], there, y[:, 5:]], 1) @ self.weight.T


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_counts_where_latents_differ(share, seed, monkeypatch):
    """The same answer as the definition gives, from the float64 Jacobians of all 100 latents."""
    torch.manual_seed(seed)
    g = ps.Generator(SometimesThin(share), 12)
    z, _ = calibration_latents(g, top_k.LATENTS, 0)
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(g, z))
    expected = int(((sigma > 1e-6 * sigma[:, :1]).double().mean(0) >= 0.99).sum())
    assert ps.volume.auto_top_k(g) == expected == 4


def test_independent_of_the_given_latents_and_kept():
    torch.manual_seed(0)
    g = ps.Generator(nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 30)).eval())
    first = ps.log_volume(g, torch.randn(1, 6))
    second = ps.log_volume(g, 3 * torch.randn(5, 6))
    assert first.top_k == second.top_k == ps.volume.auto_top_k(g)


def test_a_constant_generator_is_refused():
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6)).eval()
    with torch.no_grad():
        module[0].bias.fill_(-1e6)
    with pytest.raises(ps.GeneratorError, match="the Jacobian is zero"):
        ps.volume.auto_top_k(ps.Generator(module))


def test_the_tolerance_limit_is_owens_factor():
    """One-sided, 99% of the law with 95% confidence, n = 16: the tables say 3.463 (Natrella, table A-7)."""
    samples = torch.cat([torch.ones(8), -torch.ones(8)]).double()[:, None]
    factor = -float(top_k._tolerance_limit(samples)) / float(samples.std())
    assert abs(factor - 3.463) < 2e-3
