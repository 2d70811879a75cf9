"""SMCSampler on generators with a known area element: what is asked for reaches the draws."""

import itertools
import math
import pickle

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.errors import PolarityWarning, SamplingError
from scipy.stats import kstest
from torch import nn

from tests.manifolds import SpherePatch, Torus
from tests.samplers.toy_generators import bent

LEVEL = 1e-7


class Cylinders(nn.Module):
    """Class c -> (z_0, exp((c+1) z_1)): the area element exp((c+1) z_1) (c+1) favours large z_1."""

    def forward(self, z, label):
        rate = (label + 1).to(z.dtype)
        return torch.stack([z[:, 0], (rate * z[:, 1]).exp()], 1)


def cylinders():
    return ps.Generator(Cylinders(), 2, num_classes=3)


def sphere(**options):
    options = {"particles": 256, "islands": 4, "surrogate": False} | options
    return ps.SMCSampler(ps.Generator(SpherePatch(), 2, SpherePatch.law), 1.0, None, **options)


def test_magnet_without_a_bank(seed):
    draw = sphere().sample(600, seed)
    low, high = math.cos(0.2), math.cos(2.9)
    area = (low - np.cos(draw.latents[:, 0].double().numpy())) / (low - high)
    assert kstest(area, "uniform").pvalue > LEVEL
    d = draw.diagnostics
    assert d.evaluations >= 600
    assert 0.7 * 600 < d.ess <= 600
    assert d.agreement["log_volume"].r_hat < 1.1
    torch.testing.assert_close(
        draw.log_volume, SpherePatch().log_volume(draw.latents.double()), atol=1e-4, rtol=0
    )
    assert draw.island.unique().tolist() == [0, 1, 2, 3]
    assert len(draw.row_ids.unique()) == d.unique_ancestors


def test_a_region_other_than_the_base_law(seed):
    """The torus under a law of half its range."""
    g = ps.Generator(Torus(), 2, Torus.law)
    sampler = ps.SMCSampler(g, -2.0, None, law=ps.Uniform(0.0, 3.0), particles=512, surrogate=False)
    u = sampler.sample(512, seed).latents[:, 0].double().numpy()
    grid = np.linspace(0, 3.0, 10_001)
    density = (3 + np.cos(grid)) ** -2.0
    cdf = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    assert kstest(np.interp(u, grid, cdf / cdf[-1]), "uniform").pvalue > LEVEL


def test_uniform_over_the_manifold_of_one_class(seed):
    """MaGNET on class 2: its sheet (z_0, exp(3 z_1)) over the unit square is covered evenly."""
    g = cylinders()
    sampler = ps.SMCSampler(g, 1.0, None, law=ps.Uniform(0.0, 1.0), particles=256, surrogate=False)
    draw = sampler.sample(200, seed, label=2)
    along, height = g(draw.latents, draw.labels).double().numpy().T
    assert kstest(along, "uniform").pvalue > LEVEL
    assert kstest((height - 1) / math.expm1(3), "uniform").pvalue > LEVEL


def test_each_class_has_a_target_of_its_own(seed):
    """With a target per class, class c under a normal law moves z_1 to mean rho (c + 1)."""
    sampler = ps.SMCSampler(cylinders(), 0.5, None, particles=256, surrogate=False)
    draw = sampler.sample(200, seed, label=2)
    assert (draw.labels == 2).all()
    assert kstest(draw.latents[:, 1].double().numpy() - 1.5, "norm").pvalue > LEVEL
    balanced = sampler.sample(300, seed, label="balanced")
    assert balanced.labels.tolist() == [0, 1, 2] * 100
    for c in range(3):
        z = balanced.latents[balanced.labels == c, 1].double().numpy()
        assert kstest(z - 0.5 * (c + 1), "norm").pvalue > LEVEL
    assert torch.equal(balanced.latents[balanced.labels == 2], draw.latents[:100])
    joint = sampler.sample(64, seed)
    assert joint.labels.unique().tolist() == [0, 1, 2]


def test_screened_twice(seed):
    """With a surrogate and a rough log-volume: draws carry exact log-volumes, and the run can be pickled."""
    g = bent()
    sampler = ps.SMCSampler(g, 1.0, 3, particles=64)
    draw = sampler.sample(80, seed)
    assert draw.diagnostics.screenings > draw.diagnostics.evaluations
    exact = ps.log_volume(g, draw.latents, top_k=3).value
    torch.testing.assert_close(draw.log_volume, exact, rtol=0, atol=1e-2)
    again = pickle.loads(pickle.dumps(sampler)).sample(80, seed)
    assert torch.equal(again.latents, draw.latents)


def test_a_stream_is_one_long_draw(seed):
    sampler = sphere(particles=64)
    parts = list(itertools.islice(sampler.stream(50, seed), 4))
    whole = sampler.sample(200, seed)
    assert torch.equal(torch.cat([part.latents for part in parts]), whole.latents)
    assert torch.equal(next(sampler.stream(seed=seed)).latents, whole.latents[:64])
    spent = [part.diagnostics.evaluations for part in parts]
    assert spent == sorted(spent)
    assert spent[-1] == whole.diagnostics.evaluations


@pytest.mark.parametrize("label", [None, [0, 2, 2]])
def test_a_stream_resumes(tmp_path, label, seed):
    path = tmp_path / "run.smc"

    def stream():
        sampler = ps.SMCSampler(cylinders(), 0.5, None, particles=64, surrogate=False)
        return sampler.stream(40, seed, label, checkpoint=path)

    unbroken = list(itertools.islice(stream(), 4))
    path.unlink()
    first = list(itertools.islice(stream(), 2))  # the second is handed out, but not known to be used
    rest = list(itertools.islice(stream(), 3))
    for part, expected in zip([first[0], *rest], unbroken, strict=True):
        assert torch.equal(part.latents, expected.latents)
        assert torch.equal(part.labels, expected.labels)
        assert part.diagnostics.evaluations == expected.diagnostics.evaluations
    for rho, tol, why in (
        (0.6, 1e-2, r"rho=0.5 there, 0.6 here"),
        (0.5, 1e-3, r"tol=0.01 there, 0.001 here"),
    ):
        other = ps.SMCSampler(cylinders(), rho, None, particles=64, surrogate=False, tol=tol)
        with pytest.raises(SamplingError, match=rf"another run \({why}\)"):
            next(other.stream(40, seed, label, checkpoint=path))


def test_interrupted_on_the_ladder(tmp_path, seed):
    """Stopped in the middle of a log-volume, the run loses that sweep and nothing else."""
    path = tmp_path / "run.smc"
    expected = sphere(particles=64).sample(64, seed)
    sampler = sphere(particles=64)
    exact, calls = sampler._evaluate, 0

    def failing(z, label):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return exact(z, label)

    sampler._evaluate = failing
    with pytest.raises(KeyboardInterrupt):
        next(sampler.stream(64, seed, checkpoint=path))
    resumed = next(sphere(particles=64).stream(64, seed, checkpoint=path))
    assert torch.equal(resumed.latents, expected.latents)
    assert resumed.diagnostics.evaluations == expected.diagnostics.evaluations


def test_particles_that_do_not_move_are_reported(seed, monkeypatch):
    sampler = sphere(particles=64)
    sampler.settings = sampler.settings.__class__(
        **{**vars(sampler.settings), "correlation": -1.0, "sweeps": 2}
    )
    with pytest.warns(PolarityWarning, match="after 2 sweeps"):
        sampler.sample(8, seed)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"particles": 100, "islands": 3}, ValueError, "multiple of the islands"),
        ({"particles": 16, "islands": 4}, ValueError, "at least 8"),
        ({"particles": 0}, ValueError, "particles=0"),
        ({"law": ps.Sphere()}, ValueError, "one lives on a sphere"),
        ({"law": "gauss"}, ValueError, "law='gauss'"),
        ({"tol": 0.0}, ValueError, "tol is 0.0"),
    ],
)
def test_settings_that_make_no_sense(options, error, message):
    with pytest.raises(error, match=message):
        sphere(**options)


def test_arguments_are_checked_before_anything_is_computed():
    with pytest.raises(ValueError, match="n=0"):
        sphere().stream(0)
    with pytest.raises(ValueError, match="unconditional"):
        sphere().stream(1, label=2)
    with pytest.raises(ValueError, match="top_k=3: expected 1 to 2"):
        ps.SMCSampler(cylinders(), 1.0, 3)
    with pytest.raises(ValueError, match="classes are 0 to 2"):
        ps.SMCSampler(cylinders(), 1.0, None).sample(1, label=3)
