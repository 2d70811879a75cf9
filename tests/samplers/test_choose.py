"""Effective sample sizes over rho and top_k."""

import numpy as np
import pytest
from polarity_sampling.errors import SamplingError
from polarity_sampling.laws import Ball, Normal
from polarity_sampling.samplers import MagnetSampler, PolaritySampler, choose_top_k, effective_sample_sizes

from .fake_bank import FakeBank, log_normal_bank

pytestmark = pytest.mark.filterwarnings("ignore:MaGNET with top_k")


def test_effective_sample_sizes_are_those_of_the_samplers():
    bank = log_normal_bank(1000, 3)
    rhos = [-1.0, 0.0, 0.5, 2.0]
    found = effective_sample_sizes(bank, rhos, top_k=2)
    np.testing.assert_allclose(found, [PolaritySampler(bank, rho, 2).ess for rho in rhos])
    assert found[1] == pytest.approx(1000)
    assert effective_sample_sizes(bank, []).shape == (0,)


@pytest.mark.parametrize("n", [2, 20, 100, 400])
@pytest.mark.parametrize("rho", [-0.5, 1.0])
def test_the_largest_top_k_with_enough_effective_rows(n, rho):
    bank = log_normal_bank(1000, 12, scale=0.8)
    sizes = [PolaritySampler(bank, rho, k).ess for k in range(1, 13)]
    assert choose_top_k(bank, n, rho) == max(k for k in range(1, 13) if sizes[k - 1] >= n)


@pytest.mark.parametrize("law", [Normal(), Ball(6.0)])
def test_it_is_magnets_ess_by_default(law):
    bank = log_normal_bank(1000, 12, law=law)
    k = choose_top_k(bank, 50)
    assert MagnetSampler(bank, k).ess >= 50
    assert k < 12
    assert MagnetSampler(bank, k + 1).ess < 50


def test_rows_below_the_floor_limit_top_k():
    sigma = np.ones((100, 5))
    sigma[:50, 3:] = 1e-9
    assert choose_top_k(FakeBank(sigma, floor=1e-6), 10) == 3


def test_no_top_k_is_enough():
    with pytest.raises(SamplingError, match=r"n=300 at rho=1: the best is \d"):
        choose_top_k(log_normal_bank(400, 3, scale=2.0), 300)


def test_arguments_are_checked():
    bank = log_normal_bank(10)
    with pytest.raises(ValueError, match="n=0"):
        choose_top_k(bank, 0)
    with pytest.raises(ValueError, match="rho=nan"):
        choose_top_k(bank, 1, float("nan"))
    with pytest.raises(ValueError, match="rho=inf"):
        effective_sample_sizes(bank, [0.0, float("inf")])
    with pytest.raises(ValueError, match="top_k=2"):
        effective_sample_sizes(bank, [0.0], top_k=2)
