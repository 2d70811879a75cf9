"""Rivals that look at latents alone: base, truncation, hubness, mixture."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.errors import SamplingError
from polarity_sampling.samplers.rivals import (
    BaseSampler,
    HubnessSampler,
    MixtureSampler,
    StyleTruncationSampler,
    TruncationSampler,
)
from polarity_sampling.samplers.rivals.hubness import hub_values
from scipy.stats import kstest, truncnorm
from sklearn.neighbors import NearestNeighbors
from torch import nn

from ..toy_generators import sheet, sheets

LEVEL = 1e-4


def test_base_draws_are_rows_of_the_law(seed):
    g = sheet()
    draw = BaseSampler(g).sample(50, seed)
    assert torch.equal(draw.latents, g.base.draw(seed, torch.arange(50), 2))
    assert torch.equal(BaseSampler(g).sample(20, seed).latents, draw.latents[:20])
    assert torch.equal(
        BaseSampler(g, ps.Ball(1.0)).sample(5, seed).latents, ps.Ball(1.0).draw(seed, torch.arange(5), 2)
    )


def test_classes_of_base_draws_are_all_as_likely(seed):
    counts = BaseSampler(sheets()).sample(3000, seed).labels.bincount()
    assert (counts - 1000).abs().max() < 120  # 4.6 standard deviations


@pytest.mark.parametrize("c", [0.5, 2.0])
def test_a_true_truncated_normal(c, seed):
    z = TruncationSampler(sheet(), c).sample(1000, seed).latents.flatten().numpy()
    assert kstest(z, truncnorm(-c, c).cdf).pvalue > LEVEL


def test_only_a_standard_normal_law_is_truncated():
    with pytest.raises(ValueError, match="standard normal"):
        TruncationSampler(ps.Generator(sheet().module, 2, ps.Uniform()), 1.0)
    with pytest.raises(ValueError, match="positive"):
        TruncationSampler(sheet(), 0.0)


def test_truncation_in_w(seed):
    g = sheet()
    z = BaseSampler(g).sample(40, seed).latents
    with torch.no_grad():
        w = g.module.mapping(z)
    full, half, none = (StyleTruncationSampler(g, psi) for psi in (1.0, 0.5, 0.0))
    torch.testing.assert_close(full.sample(40, seed).latents, w)
    torch.testing.assert_close(half.sample(40, seed).latents, (w + half.centre) / 2)
    assert none.sample(40, seed).latents.std(0).max() < 1e-6
    assert none.centre.abs().max() < 0.03  # tanh of a centred normal, mean of 10,000
    with pytest.raises(ValueError, match="no attribute `mapping`"):
        StyleTruncationSampler(ps.Generator(nn.Linear(2, 3)), 0.5)
    with pytest.raises(ValueError, match=r"psi=1\.5"):
        StyleTruncationSampler(g, 1.5)


def test_hub_values_against_scikit_learn(seed):
    z = torch.randn(1500, 20, generator=torch.Generator().manual_seed(seed))
    neighbours = NearestNeighbors(n_neighbors=6).fit(z.numpy()).kneighbors(z.numpy(), return_distance=False)
    expected = torch.bincount(torch.from_numpy(neighbours[:, 1:].ravel()), minlength=1500)
    found = hub_values(z, 5)
    assert int(found.sum()) == 1500 * 5
    assert (found != expected).sum() <= 4  # ties within rounding


def test_hubs_lie_nearer_to_the_centre(seed):
    g = ps.Generator(nn.Linear(30, 4))
    sampler = HubnessSampler(g, threshold=20, pool=1000)
    draw = sampler.sample(30, seed)
    base = BaseSampler(g).sample(1000, seed).latents.norm(dim=1)
    assert draw.latents.norm(dim=1).mean() < base.mean() - base.std()
    assert torch.equal(draw.latents, g.base.draw(seed, draw.row_ids, 30))
    assert 0 < draw.diagnostics.acceptance < 0.1


def test_hubs_that_do_not_exist():
    with pytest.raises(SamplingError, match=r"largest hub value is \d+, threshold=90"):
        HubnessSampler(sheet(), threshold=90, pool=100).sample(3)
    with pytest.raises(ValueError, match="fewer neighbours"):
        HubnessSampler(sheet(), neighbours=10, pool=10)


@pytest.mark.parametrize(("n", "expected"), [(10, [7, 3]), (1, [1, 0]), (1001, [701, 300])])
def test_a_mixture_has_the_shares_asked_for(n, expected, seed):
    narrow, wide = BaseSampler(sheet(), ps.Ball(0.5)), BaseSampler(sheet(), ps.Uniform(5.0, 6.0))
    draw = MixtureSampler([narrow, wide], [0.7, 0.3]).sample(n, seed)
    assert draw.component.bincount(minlength=2).tolist() == expected
    assert torch.equal(draw.latents[:, 0] > 4, draw.component == 1)
    assert draw.diagnostics.ess == n
    assert len(draw.parts) == sum(count > 0 for count in expected)
    if n > 100:  # in random order
        assert abs(int((draw.component[:500] == 0).sum()) - 350) < 60


def test_the_parts_of_a_mixture_are_independent(seed):
    """Even of samplers of the same law, which draw the same latents from the same seed."""
    bank = ps.Bank.build(sheet(), 512, seed=seed, top_k=None, progress=False)
    for parts in ([BaseSampler(sheet())] * 2, [BaseSampler(sheet()), ps.PolaritySampler(bank, 0.0)]):
        draw = MixtureSampler(parts, [1, 1]).sample(400, seed)
        assert len(draw.latents.unique(dim=0)) == draw.diagnostics.ess == 400


def test_labels_stay_with_their_draws(seed):
    parts = [BaseSampler(sheets()), TruncationSampler(sheets(), 0.1)]
    draw = MixtureSampler(parts, [1, 1], num_classes=3).sample(9, seed, label=[0, 1, 2])
    assert draw.labels.tolist() == [0, 1, 2] * 3


def test_mixtures_that_make_no_sense():
    with pytest.raises(ValueError, match="one share for each"):
        MixtureSampler([BaseSampler(sheet())], [1, 2])
    with pytest.raises(ValueError, match="positive"):
        MixtureSampler([BaseSampler(sheet())], [0.0])
    with pytest.raises(ValueError, match=r"\[2\] with labels and \[2\] without labels: expected samplers of"):
        MixtureSampler([BaseSampler(sheet()), BaseSampler(sheets())], [1, 1]).sample(4)
    with pytest.raises(ValueError, match="give MixtureSampler num_classes="):
        MixtureSampler([BaseSampler(sheets())], [1.0]).sample(2, label=1)
