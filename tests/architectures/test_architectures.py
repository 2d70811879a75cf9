"""The generators are awake: they use their latent, do not saturate, and their forms agree."""

import polarity_sampling as ps
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests import oracle
from tests.architectures import ARCHITECTURES, mlp


def inputs(generator, count, seed):
    z = generator.base.draw(seed, torch.arange(count), generator.latent_dim)
    return z, None if generator.num_classes is None else torch.arange(count) % generator.num_classes


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_jacobian_is_real(name, seed):
    generator = ARCHITECTURES[name]()
    z, label = inputs(generator, 32, seed)
    samples = generator(z, label).flatten(1)
    assert 0.05 < samples.std() < 5
    assert samples.std(0).mean() > 0.1 * samples.std()
    with sdpa_kernel(SDPBackend.MATH):  # the fused one has no forward-mode derivative
        J = oracle.dense_jacobian(generator, z[:2], None if label is None else label[:2])
    assert J.square().mean().sqrt() > 0.05 * samples.std()
    sigma = torch.linalg.svdvals(J)
    assert (sigma[:, generator.latent_dim // 2] > 1e-4 * sigma[:, 0]).all()


def test_planted_share_of_active_units(seed):
    network = mlp.generator().module
    z = torch.randn(2048, network[0].in_features, generator=torch.Generator().manual_seed(seed))
    first = network[:2](z)
    second = network[2:4](first)
    for hidden, part in ((first, 0.3), (second, 0.14)):
        assert ((hidden > 0).float().mean() - part).abs() < 0.02


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("stylegan2-fused", "stylegan2-scaled"),
        ("stylegan3-fused", "stylegan3-scaled"),
        ("transformer", "transformer-sdpa"),
    ],
)
def test_forms_agree(one, other, seed):
    first, second = (ARCHITECTURES[name]().in_dtype(torch.float64) for name in (one, other))
    z = ps.Normal().draw(seed, torch.arange(3), first.latent_dim).double()
    torch.testing.assert_close(first(z), second(z), atol=1e-12, rtol=1e-12)
