"""Conformance: what every sampler promises, checked on every sampler.

A new sampler gets a line in SAMPLERS; a sampler exported by the package that has none fails the suite.
"""

import inspect
import pickle
import warnings
from collections.abc import Callable

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling import samplers
from polarity_sampling.samplers import rivals
from polarity_sampling.samplers.rivals import (
    BaseSampler,
    DiscriminatorSampler,
    HubnessSampler,
    MixtureSampler,
    RaritySampler,
    StyleTruncationSampler,
    SupportGuard,
    TruncationSampler,
)

from .toy_generators import flat, sheet, sheets, small_is_real

Make = Callable[[ps.Generator, str], samplers.Sampler]

TOP_K = 2
RHO = 0.5


def bank(g: ps.Generator, memory: str) -> ps.Bank:
    batch = 16 if memory == "1KiB" else 64
    return ps.Bank.build(g, 512, top_k=None, seed=5, batch_size=batch, shard_rows=64, progress=False)


def reference(g: ps.Generator) -> torch.Tensor:
    z = g.base.draw(77, torch.arange(200), 2)
    return flat(g(z, None if g.num_classes is None else torch.arange(200) % 3))


# A sampler for a generator; memory bounds how many latents are evaluated at a time.
SAMPLERS: dict[str, Make] = {
    "polarity": lambda g, memory: ps.PolaritySampler(bank(g, memory), RHO),
    "polarity tempered": lambda g, memory: ps.PolaritySampler(bank(g, memory), "auto", min_ess=300),
    "magnet": lambda g, memory: ps.MagnetSampler(bank(g, memory)),
    "smc": lambda g, memory: ps.SMCSampler(
        g, RHO, TOP_K, particles=32, islands=2, surrogate=False, memory=memory
    ),
    "rejection": lambda g, memory: samplers.RejectionSampler(g, -RHO, 2.0, TOP_K, memory=memory),
    "independence": lambda g, memory: samplers.IndependenceSampler(g, RHO, TOP_K, length=5, memory=memory),
    "base": lambda g, memory: BaseSampler(g),
    "truncation": lambda g, memory: TruncationSampler(g, 1.0),
    "style truncation": lambda g, memory: StyleTruncationSampler(g, 0.7),
    "hubness": lambda g, memory: HubnessSampler(g, threshold=8, neighbours=5, pool=200),
    "rarity": lambda g, memory: RaritySampler(g, flat, reference(g)),
    "discriminator chains": lambda g, memory: DiscriminatorSampler(g, small_is_real, "mh", length=5),
    "discriminator rejection": lambda g, memory: DiscriminatorSampler(g, small_is_real, "rejection"),
    "mixture": lambda g, memory: MixtureSampler(
        [BaseSampler(g), ps.MagnetSampler(bank(g, memory))], [3, 1], g.num_classes
    ),
    "support guard": lambda g, memory: SupportGuard(BaseSampler(g), g, flat, reference(g)),
}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ps.PolarityWarning)
        yield


@pytest.fixture(scope="module")
def made():
    """Samplers, each made once."""
    kept: dict[tuple[str, bool], samplers.Sampler] = {}

    def make(name: str, conditional: bool = False) -> samplers.Sampler:
        key = (name, conditional)
        if key not in kept:
            kept[key] = SAMPLERS[name](sheets() if conditional else sheet(), "1GiB")
        return kept[key]

    return make


everyone = pytest.mark.parametrize("name", SAMPLERS)


def same(a: samplers.Draw, b: samplers.Draw) -> bool:
    tensors = [(a.latents, b.latents), (a.log_weights, b.log_weights), (a.row_ids, b.row_ids)]
    if a.labels is not None or b.labels is not None:
        tensors.append((a.labels, b.labels))
    return all(torch.equal(x, y) for x, y in tensors)


def test_no_sampler_is_missing():
    exported = {
        value
        for module in (samplers, rivals)
        for name, value in vars(module).items()
        if inspect.isclass(value) and name.endswith(("Sampler", "Guard")) and value is not samplers.Sampler
    }
    assert exported == {type(make(sheet(), "1GiB")) for make in SAMPLERS.values()}


@everyone
@pytest.mark.parametrize("conditional", [False, True])
def test_shapes_dtypes_and_device(made, name, conditional):
    draw = made(name, conditional).sample(7, seed=3)
    assert len(draw) == 7
    width = 3 if name == "style truncation" else 2
    assert (draw.latents.dtype, tuple(draw.latents.shape)) == (torch.float32, (7, width))
    assert (draw.log_weights.dtype, tuple(draw.log_weights.shape)) == (torch.float64, (7,))
    assert (draw.row_ids.dtype, tuple(draw.row_ids.shape)) == (torch.int64, (7,))
    if conditional:
        assert (draw.labels.dtype, tuple(draw.labels.shape)) == (torch.int64, (7,))
        assert ((draw.labels >= 0) & (draw.labels < 3)).all()
    else:
        assert draw.labels is None
    assert {t.device.type for t in (draw.latents, draw.log_weights, draw.row_ids)} == {"cpu"}
    assert draw.latents.isfinite().all()
    assert draw.log_weights.isfinite().all()
    assert isinstance(draw.diagnostics, samplers.Diagnostics)
    assert draw.diagnostics.n == 7
    assert draw.diagnostics.ess > 0
    assert draw.diagnostics.evaluations >= 0


@everyone
def test_the_seed_decides_and_nothing_else(made, name):
    sampler = made(name)
    torch.manual_seed(1)
    first = sampler.sample(20, seed=4)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002, it is watched
    torch.manual_seed(2)
    again = sampler.sample(20, seed=4)
    assert same(first, again)
    assert first.diagnostics == again.diagnostics
    anew = SAMPLERS[name](sheet(), "1GiB").sample(20, seed=4)
    assert same(first, anew)
    assert not torch.equal(first.latents, sampler.sample(20, seed=5).latents)
    torch.set_rng_state(state)
    sampler.sample(20, seed=6)
    assert torch.equal(torch.get_rng_state(), state)  # no hidden stream is read
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@everyone
def test_draws_do_not_depend_on_how_many_latents_go_together(made, name):
    draw = made(name).sample(20, seed=4)
    small = SAMPLERS[name](sheet(), "1KiB").sample(20, seed=4)
    torch.testing.assert_close(draw.latents, small.latents, rtol=0, atol=1e-5)
    torch.testing.assert_close(draw.log_weights, small.log_weights, rtol=0, atol=1e-4)


@everyone
def test_labels_come_as_asked_for(made, name):
    sampler = made(name, conditional=True)
    assert (sampler.sample(5, seed=1, label=2).labels == 2).all()
    assert sampler.sample(7, seed=1, label="balanced").labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert sampler.sample(4, seed=1, label=[2, 0]).labels.tolist() == [2, 0, 2, 0]
    tensor = torch.tensor([1, 1, 0])
    assert sampler.sample(3, seed=1, label=tensor).labels.tolist() == [1, 1, 0]
    assert len(sampler.sample(60, seed=1).labels.unique()) == 3


@everyone
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n=0"),
        ({"n": -3}, ValueError, "n=-3"),
        ({"n": 2.5}, TypeError, "n=2.5"),
        ({"n": True}, TypeError, "n=True"),
        ({"n": 2, "seed": -1}, ValueError, "seed=-1"),
        ({"n": 2, "seed": 2**63}, ValueError, "seed="),
        ({"n": 2, "seed": "a"}, TypeError, "seed='a'"),
        ({"n": 2, "label": 1}, ValueError, "unconditional"),
    ],
)
def test_arguments_that_make_no_sense(made, name, arguments, error, message):
    with pytest.raises(error, match=message):
        made(name).sample(**arguments)


@everyone
@pytest.mark.parametrize("label", [3, -1, [0, 5], "all", [0, 0, 0, 0]])
def test_labels_that_make_no_sense(made, name, label):
    with pytest.raises(ValueError, match="label"):
        made(name, conditional=True).sample(3, label=label)


@everyone
def test_many_more_draws_than_rows_or_particles(made, name):
    n = 2000 if name != "smc" else 300
    draw = made(name).sample(n, seed=2)
    assert len(draw) == n
    assert draw.latents.isfinite().all()
    assert len(draw.latents.unique(dim=0)) > 50


@everyone
def test_equal_latents_have_equal_weights(made, name):
    """log_weights are a function of the draw: where a latent comes twice, its weight does."""
    draw = made(name).sample(400, seed=2)
    if name == "mixture":  # weights of different samplers have different constants
        kept = draw.component == 1
        latents, weights = draw.latents[kept], draw.log_weights[kept]
    else:
        latents, weights = draw.latents, draw.log_weights
    _, index = latents.unique(dim=0, return_inverse=True)
    low = torch.full((len(index),), torch.inf).double().scatter_reduce(0, index, weights, "amin")
    high = torch.full((len(index),), -torch.inf).double().scatter_reduce(0, index, weights, "amax")
    assert (high - low)[index].max() < 1e-9


VOLUME_BASED = {
    "polarity": RHO, "magnet": 1.0, "smc": RHO, "rejection": -RHO,
    "independence": RHO,
}  # fmt: skip


@pytest.mark.parametrize("name", VOLUME_BASED)
def test_weights_are_those_of_the_drawn_latents(made, name):
    """Differences of log_weights are rho times differences of log-volumes, computed here anew."""
    draw = made(name).sample(30, seed=2)
    volume = ps.log_volume(sheet(), draw.latents, top_k=TOP_K).value
    expected = VOLUME_BASED[name] * (volume - volume[0])
    torch.testing.assert_close(draw.log_weights - draw.log_weights[0], expected, rtol=0, atol=1e-4)


@everyone
def test_a_generator_in_another_precision(name):
    draw = SAMPLERS[name](sheet(torch.float64), "1GiB").sample(6, seed=3)
    assert draw.latents.dtype == torch.float32


@pytest.mark.gpu
@everyone
def test_a_generator_on_a_gpu(made, name):
    g = sheet()
    g.module.cuda()
    draw = SAMPLERS[name](g, "1GiB").sample(20, seed=4)
    assert draw.latents.device.type == "cpu"
    torch.testing.assert_close(draw.latents, made(name).sample(20, seed=4).latents, rtol=0, atol=1e-4)


@everyone
def test_a_pickled_sampler_draws_the_same(made, name):
    sampler = made(name)
    copy = pickle.loads(pickle.dumps(sampler))
    assert same(copy.sample(20, seed=9), sampler.sample(20, seed=9))
    draw = sampler.sample(20, seed=9)
    assert same(pickle.loads(pickle.dumps(draw)), draw)


@everyone
def test_positions_are_exchangeable(made, name):
    """No position of a draw is special: early and late draws have one law."""
    if name == "smc":
        pytest.skip("an SMC stream is tested for this in tests/samplers/smc")
    from scipy.stats import ks_2samp

    draw = made(name).sample(2000, seed=8)
    first, last = draw.latents[:700, 0].numpy(), draw.latents[-700:, 0].numpy()
    assert ks_2samp(first, last).pvalue > 1e-6
