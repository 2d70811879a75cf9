"""Latents that are images of noise: too many directions for all products of several latents."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian.operator import JacobianOperator
from polarity_sampling.samplers.smc.rough import RoughLogVolume
from polarity_sampling.volume import calibration
from polarity_sampling.volume.calibration import MOST_DIRECTIONS, rounding_of
from torch import Tensor, nn

from tests import oracle

PIXELS = 20
SIZE = 3 * PIXELS**2


class OneStep(nn.Module):
    """Noise to an image, much of whose variation is smooth."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 3, 3, padding=1), nn.Tanh()
        )
        self.smooth = nn.Parameter(torch.randn(8, SIZE) / SIZE**0.5)

    def forward(self, z: Tensor) -> Tensor:
        pixels = self.net(z.view(-1, 3, PIXELS, PIXELS)).flatten(1)
        decaying = 30.0 * 0.7 ** torch.arange(8, dtype=z.dtype)
        return pixels + (torch.sin(z @ self.smooth.T) * decaying) @ self.smooth


@pytest.fixture
def generator(seed: int) -> ps.Generator:
    assert SIZE > MOST_DIRECTIONS
    return ps.Generator(OneStep(seed).float().eval(), SIZE)


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tangents of how many latents went through products."""
    found: list[int] = []
    apply = JacobianOperator.__matmul__

    def counted(self: JacobianOperator, tangents: Tensor) -> Tensor:
        found.append(self.shape[0] * tangents.shape[-1])
        return apply(self, tangents)

    monkeypatch.setattr(JacobianOperator, "__matmul__", counted)
    return found


@pytest.mark.parametrize("mode", ["absolute", "relative"])
def test_leading_values_take_few_products_from_the_first_call_on(generator, pushed, mode, seed):
    z = generator.base.draw(seed, torch.arange(2), SIZE)
    found = ps.log_volume(generator, z, top_k=4, tol_mode=mode)
    assert sum(pushed) < 2 * SIZE, "with the calibration: less than all of two latents"
    truth = oracle.log_volume(oracle.dense_jacobian(generator, z), 4)
    assert found.method == "krylov"
    assert found.certificate == "bound"
    assert found.converged.all()
    assert ((found.value - truth).abs() <= found.error).all()


def test_the_largest_value_is_found_from_below(generator, seed):
    z = generator.base.draw(seed, torch.arange(3), SIZE)
    operator = ps.jacobian(generator, z)
    probes = torch.randn(SIZE, calibration.ROUNDING_PROBES)
    largest, images = calibration._largest(operator, probes)
    truth = torch.linalg.matrix_norm(oracle.dense_jacobian(generator, z), 2)
    assert (largest <= truth * (1 + 1e-6)).all()
    assert (largest >= 0.9 * truth).all()
    torch.testing.assert_close(images, operator @ probes)


def test_a_flat_spectrum_is_done_exactly(generator, seed):
    with torch.no_grad():
        generator.module.smooth.zero_()
    z = generator.base.draw(seed, torch.arange(1), SIZE)
    found = ps.log_volume(generator, z, top_k=200, tol=1e-3)
    assert found.method == "exact"
    assert found.spent.tolist() == [SIZE + 1]


def test_what_needs_all_directions_says_so(generator):
    assert RoughLogVolume.of(generator, 4, 1.0, "1GiB") is None
    with pytest.raises(ValueError, match=r"top_k='auto'.*1200 singular values.*memory"):
        ps.log_volume(generator, torch.randn(1, SIZE), memory="64MiB")
    assert rounding_of(generator, torch.float32, "64MiB").verified
