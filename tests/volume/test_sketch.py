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
    assert found[0].products == size


def test_panels_do_not_change_a_bit_that_matters(seed):
    """Columns that do not fit the memory together are multiplied with the same S."""
    matrix = planted(SPECTRA["exponential"](20, 1e4), 3, 150, seed)
    whole = gaussian_sketch(matrix, 60, seed=seed).value
    panels = gaussian_sketch(matrix, 60, seed=seed, memory=3 * 150 * 8 * 7).value
    torch.testing.assert_close(panels, whole, rtol=0, atol=1e-9)


def test_the_spread_for_several_times_as_many_rows():
    """What the docstring says, at a size where the sum is an integral."""
    for factor in (2, 16):
        found = gaussian_sketch(torch.eye(100, dtype=torch.float64)[None], 100 * factor)
        assert abs(found.std - math.sqrt(0.5 * math.log(factor / (factor - 1)))) < 3e-3


def test_refuses_too_few_rows():
    with pytest.raises(ValueError, match="rows is 4; expected at least K = 5"):
        gaussian_sketch(torch.randn(1, 9, 5), 4)
