"""The Gaussian sketch: unbiased, with the spread and the interval it claims, whatever the operator."""

import math

import pytest
import torch
from polarity_sampling.volume import gaussian_sketch

from tests.volume.planted import SPECTRA, planted


@pytest.mark.parametrize(("size", "rows"), [(10, 10), (10, 20), (30, 90)])
def test_unbiased_with_the_spread_it_claims(size, rows, seed):
    matrix = planted(SPECTRA["exponential"](size, 1e6), 1, 120, seed)
    truth = torch.linalg.svdvals(matrix).log().sum()
    found = [gaussian_sketch(matrix, rows, seed=seed + i) for i in range(400)]
    errors = torch.cat([f.value for f in found]) - truth
    std = found[0].std
    assert errors.mean().abs() < 5 * std / 20  # five standard errors
    assert abs(errors.std() / std - 1) < 0.25
    assert (errors.abs() <= found[0].error).all()
    assert found[0].error < 20 * std
    assert found[0].products == rows


def test_the_spread_for_twice_as_many_rows():
    """What the docstring says, at a size where the sum is an integral."""
    found = gaussian_sketch(torch.eye(400, dtype=torch.float64)[None], 800)
    assert abs(found.std - math.sqrt(0.5 * math.log(2.0))) < 1e-3


def test_refuses_too_few_rows():
    with pytest.raises(ValueError, match="rows is 4; expected at least K = 5"):
        gaussian_sketch(torch.randn(1, 9, 5), 4)
