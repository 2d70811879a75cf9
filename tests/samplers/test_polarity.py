"""PolaritySampler end to end on banks in memory.

Chi-square tests reject a correct implementation for one seed in 10^4 (LEVEL); seeds are fixed.
"""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from polarity_sampling.errors import PolarityWarning, SamplingError
from polarity_sampling.laws import Normal
from polarity_sampling.samplers import PolaritySampler
from scipy.special import softmax
from scipy.stats import chisquare

from .fake_bank import FakeBank, log_normal_bank

LEVEL = 1e-4


def conditional_bank(n=600, classes=3, seed=0):
    """Log-volumes grow with the class, so that joint draws favour classes and draws by class must not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    sigma = np.exp(0.5 * rng.standard_normal((n, 2)) + labels[:, None])
    return FakeBank(sigma, labels=labels, num_classes=classes)


def quiet(sampler, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PolarityWarning)
        return sampler.sample(*arguments, **options)


def counts(draw, rows):
    return np.bincount(draw.row_ids.numpy(), minlength=rows)


@pytest.mark.parametrize("rho", [-2.0, -0.3, 0.0, 1.0])
@pytest.mark.parametrize("top_k", [1, 2, None])
def test_weights_are_powers_of_the_volume(rho, top_k):
    bank = log_normal_bank(50, 3)
    volume = bank.singular_values[:, :top_k].prod(1)
    expected = volume**rho / (volume**rho).sum()
    sampler = PolaritySampler(bank, rho, top_k)
    torch.testing.assert_close(sampler.weights(), expected)
    assert sampler.ess == pytest.approx(1 / expected.square().sum().item())
    assert sampler.diagnose().ess == sampler.ess


@pytest.mark.parametrize("rho", [-1.0, 0.5])
def test_multinomial_frequencies(rho):
    bank = log_normal_bank(40, seed=2)
    draw = quiet(PolaritySampler(bank, rho), 100_000, seed=3, method="multinomial")
    expected = softmax(rho * bank.log_volume()[0].numpy())
    assert chisquare(counts(draw, 40), 100_000 * expected).pvalue > LEVEL


@pytest.mark.parametrize("rho", [-1.0, 0.5])
def test_systematic_frequencies_are_exact(rho):
    bank = log_normal_bank(40, seed=2)
    draw = quiet(PolaritySampler(bank, rho), 10_001, seed=3)
    expected = 10_001 * softmax(rho * bank.log_volume()[0].numpy())
    assert (np.abs(counts(draw, 40) - expected) < 1).all()


@pytest.mark.parametrize("label", [None, [0, 1]])
def test_inclusion_without_replacement(label):
    """Of all rows, and of those of class 0, which come at every second place."""
    classes = 1 if label is None else 2
    bank = log_normal_bank(6 * classes, seed=4, labels=np.arange(6 * classes) % classes, num_classes=classes)
    n, repeats = 2 * classes, 3000
    sampler = PolaritySampler(bank, 1.0)
    p = sampler.weights().numpy()[::classes]
    p = p / p.sum()
    found = np.zeros((6, 6))
    for seed in range(repeats):
        first, second = quiet(sampler, n, seed, label, replace=False).row_ids[::classes].tolist()
        found[first // classes, second // classes] += 1
    exact = p[:, None] * p[None, :] / (1 - p[:, None])
    pairs = ~np.eye(6, dtype=bool)
    assert found[~pairs].sum() == 0
    assert chisquare(found[pairs], repeats * exact[pairs]).pvalue > LEVEL


@pytest.mark.parametrize("options", [{}, {"method": "multinomial"}, {"replace": False}])
@pytest.mark.parametrize("label", [None, 1, [0, 2], "balanced"])
def test_a_draw_is_what_it_says(options, label):
    bank = conditional_bank()
    sampler = PolaritySampler(bank, -0.5)
    draw = sampler.sample(20, seed=5, label=label, **options)
    assert len(draw) == 20
    assert draw.latents.dtype == torch.float32
    assert draw.row_ids.dtype == draw.labels.dtype == torch.int64
    torch.testing.assert_close(draw.latents, bank.latents(draw.row_ids), rtol=0, atol=0)
    assert torch.equal(draw.labels, bank.labels[draw.row_ids])
    joint = sampler.weights()
    of_class = (
        torch.ones(len(joint), dtype=torch.float64)
        if label is None
        else torch.stack([joint[bank.labels == c].sum() for c in range(3)])[bank.labels]
    )
    torch.testing.assert_close(draw.log_weights.exp(), (joint / of_class)[draw.row_ids])
    assert draw.diagnostics.n == 20

    again = sampler.sample(20, seed=5, label=label, **options)
    assert torch.equal(draw.row_ids, again.row_ids)
    assert torch.equal(draw.log_weights, again.log_weights)
    assert draw.diagnostics == again.diagnostics
    other = sampler.sample(20, seed=6, label=label, **options)
    assert not torch.equal(draw.row_ids, other.row_ids)


def test_an_unconditional_draw_has_no_labels():
    draw = PolaritySampler(log_normal_bank(50), 0.0).sample(5)
    assert draw.labels is None
    assert draw.diagnostics.class_ess is None


def test_labels_come_in_the_order_asked_for():
    sampler = PolaritySampler(conditional_bank(), -0.5)
    assert sampler.sample(4, label=2).labels.tolist() == [2, 2, 2, 2]
    assert sampler.sample(5, label=[2, 0]).labels.tolist() == [2, 0, 2, 0, 2]
    assert sampler.sample(4, label=[2, 0, 0, 1]).labels.tolist() == [2, 0, 0, 1]
    draw = sampler.sample(7, label="balanced")
    assert draw.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert set(draw.diagnostics.class_ess) == {0, 1, 2}


def test_joint_draws_follow_the_weight_of_each_class():
    bank = conditional_bank()
    sampler = PolaritySampler(bank, 0.5)
    draw = quiet(sampler, 20_000, seed=1, method="multinomial")
    shares = [sampler.weights()[bank.labels == c].sum().item() for c in range(3)]
    assert chisquare(np.bincount(draw.labels.numpy()), 20_000 * np.array(shares)).pvalue > LEVEL
    assert shares[2] > 2 * shares[0]


@pytest.mark.parametrize("method", ["systematic", "multinomial"])
def test_weights_within_a_class(method):
    bank = conditional_bank(n=60)
    draw = quiet(PolaritySampler(bank, 1.0), 30_000, seed=2, label="balanced", method=method)
    found = counts(draw, 60)
    for label in range(3):
        rows = (bank.labels == label).numpy()
        expected = 10_000 * softmax(bank.log_volume()[0].numpy()[rows])
        if method == "systematic":
            assert (np.abs(found[rows] - expected) < 1).all()
        else:
            assert chisquare(found[rows], expected).pvalue > LEVEL


def test_draws_of_a_class_are_shuffled_over_its_slots():
    """First and second slot of a class have the same law, though systematic draws come in bank order."""
    bank = conditional_bank(n=30)
    sampler = PolaritySampler(bank, 0.0)
    mean = np.mean([quiet(sampler, 6, seed, label=[0, 1]).row_ids.numpy() for seed in range(2000)], axis=0)
    # Row ids are spread over 30: a slot's mean has a standard error of about 9 / sqrt(2000) = 0.2.
    assert np.ptp(mean[0::2]) < 1.2
    assert np.ptp(mean[1::2]) < 1.2


@pytest.mark.parametrize("options", [{}, {"method": "multinomial"}, {"replace": False}])
def test_classes_share_no_random_numbers(options):
    """Two classes with the same rows: shared numbers would draw the same ones, or in the same order."""
    bank = FakeBank.of_log_volumes(np.zeros(2000), labels=np.repeat([0, 1], 1000), num_classes=2)
    sampler = PolaritySampler(bank, 0.0)
    rows = sampler.sample(40, seed=3, label=[0, 1], **options).row_ids.numpy()
    first, second = rows[0::2], rows[1::2] - 1000
    assert np.intersect1d(first, second).size <= 5
    assert (np.argsort(first) != np.argsort(second)).any()


def test_a_class_the_bank_does_not_have():
    bank = conditional_bank()
    bank.num_classes = 5
    sampler = PolaritySampler(bank, 1.0)
    with pytest.raises(SamplingError, match="label=3: the bank has no row of this class"):
        sampler.sample(4, label="balanced")
    with pytest.raises(ValueError, match="label=5: the classes are 0 to 4"):
        sampler.sample(4, label=5)


def test_more_draws_than_rows_without_replacement():
    sampler = PolaritySampler(log_normal_bank(10), 1.0)
    assert sorted(quiet(sampler, 10, replace=False).row_ids.tolist()) == list(range(10))
    with pytest.raises(SamplingError, match="11 draws without replacement from 10 rows with weight"):
        sampler.sample(11, replace=False)
    bank = conditional_bank(n=30)
    available = int((bank.labels == 1).sum())
    with pytest.raises(SamplingError, match=f"{available + 1} draws of class 1 .* from {available} rows"):
        PolaritySampler(bank, 1.0).sample(available + 1, label=1, replace=False)


def test_rows_a_hundred_thousand_nats_apart():
    values = np.array([-1e5, 0.0, 5e4, 1e5])
    for rho, best in ((1.0, 3), (-1.0, 0)):
        sampler = PolaritySampler(FakeBank.of_log_volumes(values), rho)
        draw = quiet(sampler, 3, seed=1)
        assert draw.row_ids.tolist() == [best] * 3
        assert draw.diagnostics.ess == pytest.approx(1)
        assert draw.diagnostics.realised_rho == math.copysign(math.inf, rho)
        order = quiet(sampler, 4, seed=1, replace=False)
        assert order.row_ids.tolist() == sorted(range(4), key=lambda i: -rho * values[i])
        assert order.log_weights.tolist() == pytest.approx(sorted(rho * (values - values[best]))[::-1])


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e5, 1e5)),
    st.floats(-10, 10),
    st.booleans(),
    st.integers(0, 2**63 - 1),
    st.data(),
)
def test_what_holds_for_every_draw(values, rho, replace, seed, data):
    rows = len(values)
    n = data.draw(st.integers(1, 40 if replace else rows))
    sampler = PolaritySampler(FakeBank.of_log_volumes(values), rho)
    draw = quiet(sampler, n, seed, replace=replace)
    assert sampler.weights().sum().item() == pytest.approx(1)
    assert len(draw) == n
    assert ((draw.row_ids >= 0) & (draw.row_ids < rows)).all()
    assert (draw.log_weights <= 1e-9).all()
    assert draw.log_weights.isfinite().all()
    assert replace or len(set(draw.row_ids.tolist())) == n
    figures = draw.diagnostics
    assert 1 / rows <= figures.max_weight * (1 + 1e-9)
    assert figures.max_weight <= 1 + 1e-9
    assert 1 / figures.max_weight <= figures.ess * (1 + 1e-9)
    assert figures.ess <= rows * (1 + 1e-9)
    assert math.isnan(figures.realised_rho) == (np.ptp(values) <= 1e-15 * abs(values.mean()))


@pytest.mark.parametrize("rho", [-0.7, 0.4, 1.0])
def test_realised_rho_with_replacement_is_rho(rho):
    bank = log_normal_bank(20_000, seed=6)
    n = 20_000
    found = quiet(PolaritySampler(bank, rho), n, seed=7, method="multinomial").diagnostics.realised_rho
    # Log-volumes have standard deviation 1, so realised rho has about 1 / sqrt(n); five of those.
    assert found == pytest.approx(rho, abs=5 / math.sqrt(n))


@pytest.mark.parametrize("rho", [-1.0, 1.0])
def test_without_replacement_the_realised_rho_is_smaller(rho):
    bank = log_normal_bank(2000, k=4, seed=8)
    sampler = PolaritySampler(bank, rho)
    found = quiet(sampler, 1000, seed=9, replace=False).diagnostics.realised_rho
    assert 0.05 < found / rho < 0.6
    everything = quiet(sampler, 2000, seed=9, replace=False).diagnostics.realised_rho
    assert everything == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rho": math.nan}, ValueError, "rho=nan"),
        ({"rho": -math.inf}, ValueError, "rho=-inf"),
        ({"rho": True}, TypeError, "rho=True"),
        ({"rho": "1"}, TypeError, "rho='1'"),
        ({"top_k": 0}, ValueError, "top_k=0: expected 1 to 3"),
        ({"top_k": 4}, ValueError, "top_k=4: expected 1 to 3"),
        ({"top_k": 1.0}, TypeError, "top_k=1.0"),
        ({"top_k": True}, TypeError, "top_k=True"),
        ({"flagged": "ignore"}, ValueError, "flagged='ignore'"),
        ({"target": "gauss"}, ValueError, "target='gauss'"),
    ],
)
def test_settings_that_make_no_sense(options, error, message):
    with pytest.raises(error, match=message):
        PolaritySampler(**({"bank": log_normal_bank(20, 3), "rho": 0.0} | options))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, ValueError, "n=0: expected at least 1"),
        ({"n": -3}, ValueError, "n=-3"),
        ({"n": 2.0}, TypeError, "n=2.0"),
        ({"n": True}, TypeError, "n=True"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 2**63}, ValueError, "seed="),
        ({"seed": 0.5}, TypeError, "seed=0.5"),
        ({"method": "residual"}, ValueError, "method='residual'"),
        ({"label": 0}, ValueError, "unconditional"),
    ],
)
def test_draws_that_make_no_sense(options, error, message):
    with pytest.raises(error, match=message):
        PolaritySampler(log_normal_bank(20, 3), 0.0).sample(**({"n": 4} | options))


def test_numpy_numbers_are_numbers():
    sampler = PolaritySampler(log_normal_bank(50, 3), np.float32(0.5), np.int64(2))
    assert (sampler.rho, sampler.top_k) == (0.5, 2)
    assert len(sampler.sample(np.int64(3), seed=np.uint8(4))) == 3


@pytest.mark.parametrize("rho", [-2.0, 0.7, 3.0])
@pytest.mark.parametrize("min_ess", [5.0, 40.0])
def test_tempering_stops_where_enough_rows_carry_the_weight(rho, min_ess):
    bank = log_normal_bank(500, 3, seed=8)
    sampler = PolaritySampler(bank, rho, min_ess=min_ess)
    assert math.copysign(1, sampler.rho) == math.copysign(1, rho)
    assert abs(sampler.rho) <= abs(rho)
    assert sampler.ess >= min_ess
    if sampler.rho != rho:
        assert PolaritySampler(bank, sampler.rho + 1e-4 * rho).ess < min_ess
        draw = sampler.sample(int(min_ess), seed=1)  # no warning: it has what it needs
        assert draw.diagnostics.realised_rho == pytest.approx(sampler.rho, abs=0.5)


def test_automatic_rho_is_that_of_magnet_as_far_as_it_goes():
    bank = log_normal_bank(500, 1, scale=0.1, seed=8)
    assert PolaritySampler(bank, "auto", min_ess=100).rho == 1.0
    steep = log_normal_bank(500, 1, scale=5.0, seed=8)
    assert PolaritySampler(steep, "auto", min_ess=100).rho == PolaritySampler(steep, 1.0, min_ess=100).rho < 1


@pytest.mark.parametrize(
    ("rho", "min_ess", "error", "message"),
    [
        ("auto", None, ValueError, "without min_ess"),
        ("best", 5, TypeError, "rho='best'"),
        (1.0, 0.5, ValueError, "min_ess=0.5"),
        (1.0, math.nan, ValueError, "min_ess=nan"),
        (1.0, 51, SamplingError, "even at rho=0"),
    ],
)
def test_tempering_errors(rho, min_ess, error, message):
    with pytest.raises(error, match=message):
        PolaritySampler(log_normal_bank(50), rho, min_ess=min_ess)


def test_tilting_the_law_that_rows_were_drawn_from():
    """rho and truncation together: rows of a narrower law keep that law under the tilt."""
    bank = FakeBank(np.exp(np.random.default_rng(1).standard_normal((60, 2))), law=Normal(0.0, 0.7))
    expected = softmax(0.7 * bank.log_volume()[0].numpy())
    found = PolaritySampler(bank, 0.7, target="proposal").weights().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert not np.allclose(PolaritySampler(bank, 0.7, target="base").weights().numpy(), expected)


@pytest.mark.parametrize("bank", ["digits.bank", None, torch.nn.Linear(2, 2)])
def test_what_is_no_bank_is_called_by_its_name(bank):
    with pytest.raises(TypeError, match=rf"bank is a {type(bank).__name__}; expected a bank: ps\.Bank\.open"):
        PolaritySampler(bank, 0.5)
