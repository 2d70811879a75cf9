"""The bound on what a subspace leaves out: above the norm, and soon not far above it."""

import pytest
import torch
from polarity_sampling.volume.norm_bound import deflated_norm

from tests.volume.planted import SPECTRA, planted


def never(rows, at_least, at_most):
    assert (at_least <= at_most).all()
    return torch.zeros_like(rows, dtype=torch.bool)


@pytest.mark.parametrize("deflated", [0, 7])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_is_a_bound_and_close(spectrum, deflated, seed):
    matrix = planted(SPECTRA[spectrum](80, 1e3), 40, 90, seed)
    right = torch.linalg.svd(matrix)[2].mT[:, :, :deflated]
    norm, products = deflated_norm(matrix, right, seed=seed, offset=0, max_steps=12, decided=never)
    truth = torch.linalg.svdvals(matrix)[:, deflated].square()
    assert (norm >= truth * (1 - 1e-9)).all()
    assert (norm <= 5 * truth).all()
    assert (products == 24).all()


def test_stops_when_told_so_one_by_one(seed):
    matrix = planted(SPECTRA["power law"](80, 1e2), 6, 90, seed)
    basis = matrix.new_zeros(6, 80, 0)
    _, products = deflated_norm(
        matrix,
        basis,
        seed=seed,
        offset=0,
        max_steps=12,
        decided=lambda rows, at_least, at_most: rows < 3,
    )
    assert products.tolist() == [2, 2, 2, 24, 24, 24]


def test_nothing_left_out(seed):
    matrix = planted(SPECTRA["power law"](5, 1e2), 2, 9, seed)
    basis = torch.eye(5, dtype=torch.float64).expand(2, 5, 5)
    norm, products = deflated_norm(matrix, basis, seed=0, offset=0, max_steps=3, decided=never)
    assert norm.tolist() == [0.0, 0.0]
    assert products.tolist() == [0, 0]
