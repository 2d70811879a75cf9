"""Every route on planted spectra: the true singular values lie in the brackets, without exception."""

from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polarity_sampling.volume import Status, krylov, svd
from polarity_sampling.volume.krylov import block_krylov
from polarity_sampling.volume.norm_bound import deflated_norm

from tests.ops.references import singular_values_mp
from tests.volume.planted import SPECTRA, planted

CERTIFIED = ["gram", "qr", "preconditioned", "krylov", "range_finder", "auto"]
CONDITIONS = [1.0, 1e2, 1e4, 1e8, 1e12]


def excess(found, sigma):
    """How far the true values stick out of the brackets, over sigma_1; the plant itself is off by ~1e-15."""
    truth = sigma[: found.lower.shape[1]]
    beyond = torch.maximum(found.lower - truth, truth - found.upper)
    return float(beyond.max() / sigma[0])


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("method", CERTIFIED)
def test_brackets_hold(method, spectrum, condition, seed):
    sigma = SPECTRA[spectrum](96, condition)
    found = svd(planted(sigma, 3, 120, seed), 12, method=method, seed=seed)
    assert found.certificate == "bound"
    assert excess(found, sigma) < 1e-14
    assert (found.lower <= found.values).all()
    assert (found.values <= found.upper).all()
    finite = torch.isfinite(found.error)
    truth = sigma[:12].log().sum()
    assert ((found.values[finite].log().sum(1) - truth).abs() <= found.error[finite] + 1e-12).all()
    assert torch.equal(found.status == Status.CONVERGED, found.error <= 1e-2)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 60)),
    spectrum=st.sampled_from(list(SPECTRA)),
    condition=st.floats(0, 12),
    method=st.sampled_from(CERTIFIED),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_brackets_hold_for_any_shape(sizes, spectrum, condition, method, seed, data):
    size, extra = sizes
    sigma = SPECTRA[spectrum](size, 10.0**condition)
    top_k = data.draw(st.integers(1, size))
    found = svd(planted(sigma, 2, size + extra, seed), top_k, method=method, seed=seed)
    assert excess(found, sigma) < 1e-14


@pytest.mark.parametrize(("method", "decades", "error"), [("qr", 18, 1e-12), ("preconditioned", 12, 1e-2)])
def test_small_columns_are_resolved_to_their_own_rounding(method, decades, error, seed):
    """By QR far below 1e-14 sigma_1, where small values are due to columns that are small as a whole."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(2, 30, 10, generator=generator, dtype=torch.float64)
    matrix *= torch.logspace(0, -decades, 10, dtype=torch.float64)
    found = svd(matrix, method=method)
    truth = torch.stack(singular_values_mp(matrix))
    assert (found.lower <= truth).all()
    assert (truth <= found.upper).all()
    assert (found.error <= error).all()


@pytest.mark.parametrize("method", ["qr", "preconditioned"])
def test_brackets_hold_for_small_values_that_no_column_shows(method, seed):
    """Graded columns, rotated or nearly dependent: the columns of factors are small, those of J are not."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(6, 20, 8, generator=generator, dtype=torch.float64)
    matrix *= torch.logspace(0, -7, 8, dtype=torch.float64)
    turned = matrix[:3] @ torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))[0]
    matrix[3:, :, 1] = matrix[3:, :, 0] + 1e-7 * matrix[3:, :, 1]
    matrix = torch.cat([turned, matrix[3:]])
    found = svd(matrix, method=method)
    truth = torch.stack(singular_values_mp(matrix))
    assert (found.lower <= truth).all()
    assert (truth <= found.upper).all()


@pytest.mark.parametrize("spectrum", ["power law", "exponential", "stepped", "clustered"])
def test_krylov_at_512_beats_exact(spectrum, seed):
    sigma = SPECTRA[spectrum](512, 1e4)
    found = svd(planted(sigma, 2, 520, seed), 30, method="krylov", seed=seed)
    assert (found.status == Status.CONVERGED).all()
    assert excess(found, sigma) < 1e-14
    assert (found.products < 300).all()


def test_the_power_law_of_the_literature_takes_at_most_200_products(seed):
    sigma = torch.arange(1, 513, dtype=torch.float64) ** -1.5
    found = svd(planted(sigma, 4, 512, seed), 30, method="krylov", tol=1e-2, seed=seed)
    assert (found.products <= 200).all()
    assert (found.error <= 1e-2).all()
    assert (found.values.log().sum(1) - sigma[:30].log().sum()).abs().max() <= 1e-2


def test_slow_spectra_fall_back_to_exact_and_say_what_it_cost(seed):
    sigma = torch.linspace(1.0, 0.9, 64, dtype=torch.float64)
    matrix = planted(sigma, 3, 70, seed)
    slow = block_krylov(matrix, 6, tol=1e-9, max_products=64, seed=seed)
    auto = svd(matrix, 6, method="auto", tol=1e-9, seed=seed)
    assert (slow.status == Status.SLOW_SPECTRUM).all()
    assert (slow.products <= 64).all()
    assert (auto.status == Status.CONVERGED).all()
    assert (auto.products > 64).all()
    assert excess(slow, sigma) < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 3, 8, 13, 30])
@pytest.mark.parametrize("spectrum", ["power law", "stepped", "rank-deficient"])
def test_krylov_from_few_and_from_many_directions(spectrum, width, dtype, seed):
    matrix = planted(SPECTRA[spectrum](64, 1e3), 2, 70, seed).to(dtype)
    gen = torch.Generator().manual_seed(seed)
    start = torch.linalg.qr(torch.randn(64, width, generator=gen, dtype=torch.float64))[0]
    found = svd(matrix, 12, method="krylov", start=start, tol=1e-3, seed=seed)
    truth = torch.linalg.svdvals(matrix.double())[:, :12]
    slack = 4 * torch.finfo(dtype).eps * truth[:, :1]
    assert (found.lower <= truth + slack).all()
    assert (found.upper >= truth - slack).all()


def test_probes_wait_for_a_larger_subspace(seed, monkeypatch):
    """Of a spectrum that decays slowly they would take as many products as the subspace."""
    sizes: list[int] = []

    def counted(operator, basis, **arguments):
        sizes.append(basis.shape[2])
        return deflated_norm(operator, basis, **arguments)

    monkeypatch.setattr(krylov, "deflated_norm", counted)
    matrix = planted(torch.linspace(1.0, 0.8, 400, dtype=torch.float64), 1, 420, seed)
    found = krylov.block_krylov(matrix, 10, tol=0.2, max_products=360, seed=seed)
    assert len(sizes) >= 4
    assert all(after >= krylov.WAITING * before for before, after in pairwise(sizes[:-1]))
    assert found.status.tolist() == [Status.SLOW_SPECTRUM]
    assert torch.isfinite(found.upper).all()
    truth = torch.linalg.svdvals(matrix)[:, :10]
    assert ((found.lower <= truth + 1e-14) & (truth <= found.upper + 1e-14)).all()


def test_a_rank_below_k_ends_early(seed):
    sigma = torch.cat([torch.logspace(0, -2, 10), torch.zeros(246)]).double()
    found = svd(planted(sigma, 3, 260, seed), 20, method="krylov", floor=1e-6, seed=seed)
    assert (found.status == Status.BELOW_FLOOR).all()
    assert torch.isinf(found.error).all()
    assert (found.products < 128).all()


def test_results_do_not_depend_on_the_rest_of_the_batch(seed):
    """Latents converge at different times; each takes the same steps as it would alone."""
    spectra = [SPECTRA["power law"](128, 10.0**c) for c in (1, 2, 4, 6)]
    batch = torch.cat([planted(s, 1, 130, seed + i) for i, s in enumerate(spectra)])
    together = svd(batch, 8, method="auto", seed=seed)
    assert together.products.unique().numel() > 1
    for i in range(4):
        alone = svd(batch[i : i + 1], 8, method="auto", seed=seed)
        assert int(alone.products) == int(together.products[i])
        torch.testing.assert_close(alone.values[0], together.values[i], rtol=1e-11, atol=0)
        torch.testing.assert_close(alone.error[0], together.error[i], rtol=1e-6, atol=0)


class Opaque:
    """Nothing but products, and a count of the vectors that each member was asked to multiply."""

    def __init__(self, matrix):
        self.matrix, self.count = matrix, torch.zeros(matrix.shape[0], dtype=torch.int64)
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    def __matmul__(self, tangents):
        self.count += (tangents != 0).any(-2).sum(-1)
        return self.matrix @ tangents

    @property
    def mT(self):
        parent = self

        class Adjoint:
            def __matmul__(self, cotangents):
                parent.count += (cotangents != 0).any(-2).sum(-1)
                return parent.matrix.mT @ cotangents

        return Adjoint()


@pytest.mark.parametrize("method", CERTIFIED)
def test_any_operator_will_do_and_products_are_counted(method, seed):
    matrix = planted(SPECTRA["power law"](64, 1e3), 3, 70, seed)
    operator = Opaque(matrix)
    found = svd(operator, 6, method=method, seed=seed)
    dense = svd(matrix, 6, method=method, seed=seed)
    torch.testing.assert_close(found.values, dense.values, rtol=1e-9, atol=0)
    # What the operator cannot leave out it multiplies with zeros, which do not count.
    assert torch.equal(found.products, operator.count)


@pytest.mark.parametrize("method", ["gram", "preconditioned"])
def test_streamed_columns_change_nothing(method, seed):
    matrix = planted(SPECTRA["exponential"](24, 1e3), 2, 50, seed)
    operator = Opaque(matrix)
    whole = svd(matrix, method=method)
    streamed = svd(operator, method=method, memory=2 * 50 * 8 * 10)  # ten columns at a time
    torch.testing.assert_close(streamed.values, whole.values, rtol=1e-9, atol=0)
    passes = 2 if method == "preconditioned" else 1
    # Panels of 5, 5, 5, 5 and 4: each is formed once for itself and once for every earlier one.
    once_each = 24 + 5 + 2 * 5 + 3 * 5 + 4 * 4
    assert streamed.products.tolist() == operator.count.tolist() == [passes * once_each] * 2


def test_preconditioning_resolves_what_the_gram_matrix_loses(seed):
    sigma = SPECTRA["exponential"](40, 1e10)
    matrix = planted(sigma, 3, 60, seed)
    lost = svd(matrix, method="gram")
    truth = torch.linalg.svdvals(matrix).log().sum(1)
    assert torch.isinf(lost.error).all()
    for method in ("preconditioned", "qr"):
        found = svd(matrix, method=method)
        assert (found.error < 1e-2).all()
        assert ((found.values.log().sum(1) - truth).abs() < 1e-2).all()


def test_shared_basis_bounds_from_below(seed):
    matrix = planted(SPECTRA["power law"](50, 1e3), 4, 60, seed)
    basis = torch.linalg.qr(torch.randn(50, 12, dtype=torch.float64))[0]
    found = svd(matrix, 5, method="shared_basis", start=basis)
    assert (found.lower <= torch.linalg.svdvals(matrix)[:, :5]).all()
    torch.testing.assert_close(found.values, torch.linalg.svdvals(matrix @ basis)[:, :5])
    assert torch.isinf(found.upper).all()
    assert found.products.tolist() == [12] * 4


def test_float32_operators_are_off_by_their_rounding_alone(seed):
    sigma = SPECTRA["power law"](128, 1e3)
    matrix = planted(sigma, 3, 140, seed)
    for method in CERTIFIED:
        found = svd(matrix.float(), 10, method=method, seed=seed)
        assert excess(found, sigma) < 3e-6  # rounding of a few hundred float32 products


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"top_k": 0}, ValueError, "top_k is 0; expected None or an integer in 1..6"),
        ({"top_k": 7}, ValueError, "1..6"),
        ({"method": "magic"}, ValueError, "method is 'magic'"),
        ({"tol": -1.0}, ValueError, "tol is -1.0"),
        ({"method": "shared_basis"}, ValueError, "needs start"),
        ({"start": torch.eye(5)}, ValueError, "start has shape"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text.replace("[", r"\[")):
        svd(torch.randn(2, 8, 6), **arguments)


def test_refuses_what_is_no_operator():
    with pytest.raises(TypeError, match="operator is a list"):
        svd([[1.0]])
    with pytest.raises(ValueError, match="expected \\(B, D, K\\)"):
        svd(torch.randn(3, 3))
    with pytest.raises(TypeError, match="float16"):
        svd(torch.randn(1, 3, 3).half())
