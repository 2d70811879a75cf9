"""The bound on what a subspace leaves out: above the norm, and soon not far above it."""

import pytest
import torch
from polarity_sampling.volume import norm_bound
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


@pytest.mark.parametrize("size", [1, 2, 12])
def test_few_steps_of_newton_come_from_above(size, seed, monkeypatch):
    gen = torch.Generator().manual_seed(seed)
    diagonal, beside = 10.0 ** (-8 * torch.rand(2, 200, size, generator=gen, dtype=torch.float64))
    target = 30 * torch.rand(200, generator=gen, dtype=torch.float64)
    monkeypatch.setattr(norm_bound, "_NEWTON_STEPS", 100)
    _, truth = norm_bound._norm_between(diagonal, beside, target)
    for steps in range(6):
        monkeypatch.setattr(norm_bound, "_NEWTON_STEPS", steps)
        least, most = norm_bound._norm_between(diagonal, beside, target)
        assert (most >= truth * (1 - 1e-14)).all()
        assert (most >= least).all()
    assert (most <= truth * 1.001).all()
