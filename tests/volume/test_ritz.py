"""Two-sided bounds from Ritz values: they hold for any subspace, and are tight where it is good."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polarity_sampling.volume import ritz as ritz_module
from polarity_sampling.volume.krylov import new_directions
from polarity_sampling.volume.ritz import Subspace

from tests.volume.planted import SPECTRA, planted


def problem(spectrum, condition, size, width, power, seed):
    """A matrix, a subspace improved by some power steps, and the exact norm of what that leaves out."""
    matrix = planted(SPECTRA[spectrum](size, condition), 2, size + 3, seed)
    gen = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(2, size, width, generator=gen, dtype=torch.float64))[0]
    for _ in range(power):
        basis = torch.linalg.qr(matrix.mT @ (matrix @ basis))[0]
    outside = matrix - matrix @ basis @ basis.mT
    return matrix, Subspace.of(matrix, basis), torch.linalg.matrix_norm(outside, 2) ** 2


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    spectrum=st.sampled_from(list(SPECTRA)),
    condition=st.floats(0, 6),
    size=st.integers(2, 40),
    power=st.integers(0, 2),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_both_ends_hold_for_any_subspace(spectrum, condition, size, power, seed, data):
    width = data.draw(st.integers(1, size))
    top_k = data.draw(st.integers(1, width))
    matrix, space, norm = problem(spectrum, 10.0**condition, size, width, power, seed)
    ritz = space.ritz()
    truth = torch.linalg.svdvals(matrix)[:, :top_k].square()
    slack = 1e-12 * truth[:, :1]
    assert (ritz.lower(top_k) <= truth + slack).all()
    assert (ritz.upper(top_k, norm) >= truth - slack).all()
    # A looser norm may only loosen the bound.
    assert (ritz.upper(top_k, 2 * norm) >= ritz.upper(top_k, norm) * (1 - 1e-9)).all()
    assert (ritz.lower(top_k) >= ritz.values[:, :top_k] - slack).all()


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    condition=st.floats(4, 12),
    rows=st.integers(1, 40),
    size=st.integers(1, 24),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_rounding_is_not_taken_for_an_eigenvalue(condition, rows, size, seed, data):
    """Of products in float32; the whole space leaves no residual but rounding."""
    width = data.draw(st.sampled_from(sorted({size, max(1, size // 2)})))
    count = min(rows, size)
    sigma = 10.0 ** (-condition * torch.arange(size, dtype=torch.float64) / size)
    gen = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(3, dim, count, generator=gen, dtype=torch.float64))[0]
        for dim in (rows, size)
    )
    matrix = ((left * sigma[:count]) @ right.mT).float()
    basis = torch.linalg.qr(torch.randn(3, size, width, generator=gen, dtype=torch.float64))[0]
    truth = torch.linalg.svdvals(matrix.double())
    truth = torch.nn.functional.pad(truth, (0, size - count))[:, :width]
    lower = Subspace.of(matrix, basis).ritz().lower(width).clamp(min=0.0).sqrt()
    # A column of `width` rounded products of `rows` or `size` numbers each, with room.
    slack = 4 * (rows + size) ** 0.5 * torch.finfo(torch.float32).eps * truth[:, :1]
    assert (lower <= truth + slack).all()


def test_tight_on_a_good_subspace(seed):
    """First order: the upper end exceeds the truth by no more than the Ritz value's own error does."""
    matrix, space, norm = problem("power law", 1e4, 60, 20, 2, seed)
    ritz = space.ritz()
    truth = torch.linalg.svdvals(matrix)[:, :10].square()
    missed = (truth - ritz.values[:, :10]).sum(1)
    assert (missed > 1e-14).all()
    assert ((ritz.upper(10, norm) - truth).sum(1) < 1.5 * missed).all()
    assert ((truth - ritz.lower(10)).sum(1) < 0.2 * missed).all()


def test_clusters_need_no_separation(seed):
    matrix, space, norm = problem("stepped", 1e3, 40, 24, 2, seed)
    ritz = space.ritz()
    truth = torch.linalg.svdvals(matrix)[:, :15].square()
    assert ((ritz.upper(15, norm) / truth).log() < 1e-6).all()


def test_an_invariant_subspace_is_exact(seed):
    matrix = planted(SPECTRA["exponential"](30, 1e3), 2, 33, seed)
    right = torch.linalg.svd(matrix)[2].mT[:, :, :6]
    ritz = Subspace.of(matrix, right).ritz()
    truth = torch.linalg.svdvals(matrix)[:, :6].square()
    norm = torch.linalg.svdvals(matrix)[:, 6].square()
    torch.testing.assert_close(ritz.lower(6), truth, rtol=1e-12, atol=0)
    torch.testing.assert_close(ritz.upper(6, norm), truth, rtol=1e-12, atol=0)


@pytest.mark.parametrize("tangents", [0, 1, 5])
@pytest.mark.parametrize("looser", [1.0, 3.0])
def test_an_upper_end_is_one_after_any_number_of_tangents(tangents, looser, seed, monkeypatch):
    """It meets the condition itself; five tangents make it nearly as small as it can be."""
    for spectrum in SPECTRA:
        _, space, norm = problem(spectrum, 1e3, 40, 24, 1, seed)
        ritz = space.ritz()
        monkeypatch.setattr(ritz_module, "_TANGENTS", 50)
        least = ritz.upper(15, looser * norm)
        monkeypatch.setattr(ritz_module, "_TANGENTS", tangents)
        upper = ritz.upper(15, looser * norm)
        for i in range(15):
            u = upper[:, i] + 1e-13 * ritz.values[:, 0]
            needed = (ritz.squares[:, i:] / (u[:, None] - ritz.values[:, i:])).sum(1)
            assert (needed <= u - looser * norm).all()
        if tangents == 5:
            assert (upper <= 1.001 * least).all()


def test_nothing_left_gives_the_ritz_values():
    """No residual, no norm: zero over zero nowhere."""
    space = Subspace.of(
        torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))[None], torch.eye(3)[None]
    )
    ritz = space.ritz()
    torch.testing.assert_close(ritz.upper(3, torch.zeros(1)), ritz.values)
    assert ritz.upper(3, torch.full((1,), torch.inf)).isinf().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grown_by_blocks_as_from_all_columns_at_once(dtype, seed):
    matrix, space, _ = problem("power law", 1e3, 40, 24, 1, seed)
    matrix, columns = matrix.to(dtype), space.basis.mT
    whole, grown = Subspace.of(matrix, columns), Subspace.of(matrix, columns[:, :, :13])
    for width in (3, 8):
        grown = grown.extended(matrix, columns[:, :, grown.size : grown.size + width])
    tolerance = 10 * torch.finfo(dtype).eps
    for name in ("basis", "images", "outside", "overlap", "projected"):
        torch.testing.assert_close(getattr(grown, name), getattr(whole, name), rtol=0, atol=tolerance)
    torch.testing.assert_close(grown.noise, whole.noise, rtol=0.3, atol=1e-28)
    torch.testing.assert_close(grown.ritz().values, whole.ritz().values, rtol=0, atol=tolerance)


def test_residuals_are_those_of_the_ritz_vectors(seed):
    matrix, space, _ = problem("exponential", 1e4, 40, 24, 1, seed)
    ritz = space.ritz()
    vectors = space.vectors(ritz, torch.arange(2))
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(24).double().expand(2, 24, 24))
    residuals = matrix.mT @ (matrix @ vectors) - vectors * ritz.values[:, None]
    torch.testing.assert_close(ritz.residuals.mT, residuals, rtol=0, atol=1e-15)
    torch.testing.assert_close(ritz.squares, residuals.square().sum(1), rtol=1e-9, atol=1e-30)


def test_small_residuals_beside_large_ones_keep_their_digits():
    """A random subspace of a spectrum over ten orders: its last residuals are far below its first."""
    matrix, space, _ = problem("power law", 1e5, 6, 5, 0, 1)
    truth = torch.linalg.svdvals(matrix)[:, :5].square()
    assert (space.ritz().lower(5) <= truth * (1 + 1e-3)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 3, 8, 11])
def test_new_directions_where_the_operator_has_few(dtype, rank, seed):
    """Exhausted or nearly dependent columns, down to rounding, still give a whole block."""
    gen = torch.Generator().manual_seed(seed)
    left, right = torch.randn(2, 3, 40, 12, generator=gen, dtype=torch.float64)
    graded = 10.0 ** -torch.arange(12, dtype=torch.float64) * (torch.arange(12) < rank)
    matrix = ((left * graded) @ right.mT).to(dtype)
    space = Subspace.of(matrix, torch.linalg.qr(torch.randn(3, 40, 8, generator=gen, dtype=torch.float64))[0])
    for round_ in range(1, 5):
        block = new_directions(space, 8, 8, seed, round_)
        both = torch.cat([space.basis.mT, block], 2)
        tolerance = 1e-11 if dtype == torch.float64 else 1e-5  # the basis is rounded
        error = both.mT @ both - torch.eye(both.shape[2])
        assert (error[:, :, -8:].abs() <= 1e-11).all()
        assert (error.abs() <= tolerance).all()
        space = space.extended(matrix, block)
    assert space.size == 40
    truth = torch.linalg.svdvals(matrix.double()).square()
    torch.testing.assert_close(space.ritz().values, truth, rtol=0, atol=1e-5 * float(truth.max()) + 1e-12)
