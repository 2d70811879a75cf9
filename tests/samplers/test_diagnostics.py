"""Diagnostics against closed forms and ArviZ."""

import math

import numpy as np
import pytest
from arviz_stats.base.array import array_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from polarity_sampling.samplers.diagnostics import diagnose, pareto_k, realised_rho
from polarity_sampling.samplers.strata import Stratum
from polarity_sampling.samplers.weights import tilted_mean


def stratum(log_volume, log_ratio=None, label=None, draws=1):
    log_volume = np.asarray(log_volume, dtype=np.float64)
    log_ratio = np.zeros(len(log_volume)) if log_ratio is None else log_ratio
    return Stratum(label, np.arange(draws), np.arange(len(log_volume)), log_volume, log_ratio)


def normal(n, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("n", [25, 224, 225, 226, 255, 256, 257, 300, 1000, 20_000, 100_001])
def test_pareto_k_is_that_of_arviz_over_all_rows(n):
    log_weights = normal(n, n)
    expected = float(array_stats.psislw(-log_weights)[1])
    assert pareto_k(log_weights - 77.0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_recovers_the_tail_of_pareto_weights(k):
    # 948 tail rows; the estimate's standard deviation is about (1 + k) / sqrt(948) = 0.05 to 0.06.
    u = np.random.default_rng(0).random(100_000)
    assert pareto_k(-k * np.log(u)) == pytest.approx(k, abs=0.25)


def test_pareto_k_where_no_fit_is_possible():
    assert pareto_k(np.zeros(1000)) == -math.inf
    assert math.isnan(pareto_k(normal(24)))
    assert pareto_k(normal(1000, scale=1e5)) == math.inf
    one_in_a_thousand = np.zeros(1000)
    one_in_a_thousand[17] = 3.0
    assert math.isnan(pareto_k(one_in_a_thousand))
    outside = np.where(np.arange(1000) < 300, normal(1000), -np.inf)
    assert math.isfinite(pareto_k(outside))
    outside[50:] = -np.inf
    assert pareto_k(outside) == math.inf


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 1000), st.sampled_from([1e-4, 1.0, 1e4]))
def test_realised_rho_inverts_the_tilted_mean(r, start, seed, scale):
    log_volume = normal(200, seed, scale) + 50.0
    log_ratio = normal(200, seed + 1)
    r, start = r / scale, start / scale
    mean = tilted_mean(log_volume, log_ratio, r)
    found = realised_rho([stratum(log_volume, log_ratio)], [1.0], np.array([mean]), start)
    assert found == pytest.approx(r, abs=1e-5 / scale)


def test_realised_rho_over_classes():
    first, second = stratum(normal(100, 1)), stratum(5 + normal(300, 2, 3.0))
    mean = 0.25 * tilted_mean(first.log_volume, first.log_ratio, 0.7)
    mean += 0.75 * tilted_mean(second.log_volume, second.log_ratio, 0.7)
    found = realised_rho([first, second], [0.25, 0.75], np.array([mean]), start=-1.0)
    assert found == pytest.approx(0.7, abs=1e-6)


def test_realised_rho_at_the_ends():
    rows = stratum(normal(100, 3) + 1e5)
    top, bottom = rows.log_volume.max(), rows.log_volume.min()
    assert realised_rho([rows], [1.0], np.full(7, top), 1.0) == math.inf
    assert realised_rho([rows], [1.0], np.full(7, bottom), 1.0) == -math.inf
    second = np.sort(rows.log_volume)[-2]
    almost = realised_rho([rows], [1.0], np.array([0.999 * top + 0.001 * second]), 1.0)
    assert 1 < almost < math.inf
    assert math.isnan(realised_rho([stratum(np.full(5, 0.1))], [1.0], np.full(3, 0.1), 1.0))


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_realised_rho_beyond_double_precision_is_infinite(share):
    found = realised_rho([stratum([0.0, 1e-310])], [1.0], np.array([share * 1e-310]), 0.0)
    assert found == math.copysign(math.inf, share - 0.5)


def test_ess_and_largest_weight_by_their_formulas():
    rows = stratum(normal(50, 4), normal(50, 5))
    p = np.exp(1.3 * rows.log_volume + rows.log_ratio)
    p /= p.sum()
    found = diagnose([rows], [rows.log_weights(1.3)], 1.3, bank_rows=90, excluded=4)
    assert found.ess == pytest.approx(1 / (p**2).sum())
    assert found.max_weight == pytest.approx(p.max())
    assert (found.n, found.excluded, found.realised_rho, found.class_ess) == (0, 4, 1.3, None)
    assert found.evaluations == 90


def test_classes_are_diagnosed_as_the_mixture_that_was_asked_for():
    first, second = stratum(normal(50, 6), label=0, draws=1), stratum(normal(80, 7), label=3, draws=3)
    within = [rows.log_weights(-1.0) for rows in (first, second)]
    p = np.concatenate([np.exp(within[0]) / 4, 3 * np.exp(within[1]) / 4])
    found = diagnose([first, second], within, -1.0, 130, 0, drawn_log_volume=normal(4, 8))
    assert found.n == 4
    assert found.ess == pytest.approx(1 / (p**2).sum())
    assert found.max_weight == pytest.approx(p.max())
    assert found.class_ess == {
        0: pytest.approx(1 / (np.exp(within[0]) ** 2).sum()),
        3: pytest.approx(1 / (np.exp(within[1]) ** 2).sum()),
    }
