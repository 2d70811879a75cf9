"""The warning about a small effective sample size: what it advises must help."""

import re
import warnings

import numpy as np
import pytest
from polarity_sampling.errors import PolarityWarning
from polarity_sampling.samplers import PolaritySampler

from .fake_bank import FakeBank, log_normal_bank


def message_of(sampler, n, **options):
    with pytest.warns(PolarityWarning) as caught:
        sampler.sample(n, **options)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    return str(caught[0].message)


def number(pattern, text):
    return float(re.search(pattern, text.split("Any one of these helps")[1]).group(1).replace(",", ""))


def test_enough_rows_are_no_cause_for_a_warning():
    sampler = PolaritySampler(log_normal_bank(2000), 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler.sample(int(sampler.ess))


@pytest.mark.parametrize("rho", [-1.0, 1.5])
@pytest.mark.parametrize("n", [30, 200])
def test_each_remedy_helps(rho, n):
    bank = log_normal_bank(5000, 8)
    sampler = PolaritySampler(bank, rho)
    text = message_of(sampler, n)
    assert (
        f"effective sample size {sampler.ess:.3g} of 5,000 rows for {n} draws at rho={rho:g}, top_k=8" in text
    )
    assert f"largest weight {sampler.weights().max():.1%}" in text

    smaller = number(r"; rho=([-\d.e]+)", text)
    assert 0 < smaller / rho < 1
    assert PolaritySampler(bank, smaller).ess >= n
    assert PolaritySampler(bank, smaller * 1.15).ess < n

    top_k = int(number(r"; top_k=(\d+)", text))
    assert PolaritySampler(bank, rho, top_k).ess >= n
    assert PolaritySampler(bank, rho, top_k + 1).ess < n

    rows = number(r"a bank of about ([\d,]+) rows", text)
    assert 1 <= rows / (5000 * n / sampler.ess) < 1.1

    assert number(r"at most (\d+) draws", text) == int(sampler.ess)


def test_without_replacement_it_says_which_rho_the_draws_follow():
    sampler = PolaritySampler(log_normal_bank(500, 5), 1.0)
    with pytest.warns(PolarityWarning) as caught:
        draw = sampler.sample(100, replace=False)
    realised = draw.diagnostics.realised_rho
    assert f"the draws follow rho={realised:.2g} rather than 1" in str(caught[0].message)


def test_it_names_the_class_that_suffers_most():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 1000)
    log_sigma = rng.standard_normal((2000, 4)) * np.where(labels == 1, 1.5, 0.2)[:, None]
    bank = FakeBank(np.exp(log_sigma), labels=labels, num_classes=2)
    sampler = PolaritySampler(bank, 1.0)
    text = message_of(sampler, 100, label="balanced")
    assert "of 1,000 rows of class 1 for 50 draws" in text
    smaller = number(r"; rho=([-\d.e]+)", text)
    ess = PolaritySampler(bank, smaller).sample(100, label="balanced").diagnostics.class_ess
    assert min(ess.values()) >= 50


def test_more_draws_than_rows_leaves_only_a_larger_bank():
    text = message_of(PolaritySampler(log_normal_bank(40, 3), 0.0), 100)
    assert "a bank of about 100 rows or more; at most 40 draws" in text
    assert "; rho=" not in text
    assert "; top_k=" not in text
