"""log_volume on planted spectra, with every argument and every refusal."""

import math

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian import operator
from torch import Tensor, nn

from tests import oracle
from tests.manifolds import ALL, Affine


class Planted(nn.Module):
    """z -> U diag(sigma) V^T z + curvature: known singular values at every z when curvature is 0."""

    def __init__(self, sigma: Tensor, dim_out: int, seed: int) -> None:
        super().__init__()
        gen = torch.Generator().manual_seed(seed)
        k = sigma.numel()
        left = torch.linalg.qr(torch.randn(dim_out, k, generator=gen, dtype=torch.float64))[0]
        right = torch.linalg.qr(torch.randn(k, k, generator=gen, dtype=torch.float64))[0]
        self.latent_dim = k
        self.weight = nn.Parameter((left * sigma.double()) @ right.T)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.weight.T


SPECTRA = {
    "flat": lambda k: torch.ones(k),
    "power": lambda k: torch.arange(1, k + 1, dtype=torch.float64) ** -1.5,
    "exponential": lambda k: torch.logspace(0, -4, k, dtype=torch.float64),
    "steps": lambda k: torch.where(torch.arange(k) < k // 2, 1.0, 1e-3).double(),
    "ill": lambda k: torch.logspace(0, -10, k, dtype=torch.float64),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("k", [1, 7, 64])
def test_planted_spectrum(spectrum, k, dtype):
    module = Planted(SPECTRA[spectrum](k), 3 * k + 1, seed=k).to(dtype)
    z = torch.randn(3, k, generator=torch.Generator().manual_seed(k), dtype=dtype)
    lv = ps.log_volume(module, z, top_k=None)
    # The truth is the spectrum of the weights as they are stored.
    truth = torch.linalg.svdvals(module.weight.double().detach()).log().sum()
    assert lv.value.dtype == torch.float64
    assert lv.converged.all()
    assert ((lv.value - truth).abs() <= lv.error).all()
    assert (lv.rank == k).all()


def test_small_singular_values_are_real_not_noise():
    """Condition 1e9 in float32: the Gram route cannot tell sigma_k from zero, the float64 route can."""
    module = Planted(torch.tensor([1.0, 1e-3, 1e-9], dtype=torch.float64), 8, seed=0).float()
    z = torch.randn(2, 3)
    lv = ps.log_volume(module, z, top_k=3)
    truth = torch.linalg.svdvals(module.weight.double().detach()).log().sum()
    assert lv.recomputed.all()
    assert ((lv.value - truth).abs() <= lv.error).all()
    assert (lv.error < 1e-2).all()


def test_nothing_above_the_promised_floor_is_flagged():
    sigma = torch.tensor([1.0, 0.5, 1.2e-5], dtype=torch.float64)
    lv = ps.log_volume(Planted(sigma, 9, seed=3).float(), torch.randn(4, 3), top_k=3, tol=1e-16)
    assert torch.isfinite(lv.error).all()
    assert not lv.converged.any()  # a missed tol is a finite error, marked


def test_exact_rank_deficiency():
    module = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4), nn.Linear(4, 12)).eval()
    lv = ps.log_volume(module, torch.randn(5, 6), top_k=None)
    assert (lv.rank == 4).all()
    assert torch.isinf(lv.error).all()
    assert not lv.converged.any()
    assert torch.isfinite(ps.log_volume(module, torch.randn(5, 6), top_k=4).error).all()


def test_fewer_outputs_than_latent_coordinates():
    """D values are all there are, and their product is the volume: no zero counts, and none is asked for."""
    module = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    z = torch.randn(4, 5)
    exact = torch.stack([torch.func.jacrev(lambda z: module(z[None])[0])(row) for row in z]).detach().double()
    for method in ("exact", "krylov", "auto"):
        lv = ps.log_volume(module, z, top_k=None, method=method)
        assert lv.singular_values.shape == (4, 3)
        assert (lv.rank == 3).all()
        torch.testing.assert_close(lv.value, torch.linalg.svdvals(exact).log().sum(1), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"top_k is 4; .* 1\.\.3: a sample has only 3 numbers"):
        ps.log_volume(module, z, top_k=4)


def test_auto_top_k_belongs_to_the_generator():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 12)).eval()
    few = ps.log_volume(module, torch.randn(1, 6))
    # Latents of another law, saturated: k must not follow them.
    far = ps.log_volume(module, 100 * torch.randn(3, 6))
    assert few.top_k == far.top_k == 4


def test_a_generator_that_ignores_z_is_refused_with_auto():
    class Constant(nn.Module):
        latent_dim = 3

        def forward(self, z: Tensor) -> Tensor:
            return torch.ones(z.shape[0], 5) + 0.0 * z.sum(1, keepdim=True)

    with pytest.raises(ps.GeneratorError, match="ignores z"):
        ps.log_volume(Constant(), torch.randn(2, 3))
    lv = ps.log_volume(Constant(), torch.randn(2, 3), top_k=2)  # flagged, no crash
    assert torch.isinf(lv.error).all()
    assert (lv.rank == 0).all()


class KinkedAt(nn.Module):
    """A ReLU whose pre-activation is rounding noise in float32 and has a definite sign in float64."""

    latent_dim = 2

    def forward(self, z: Tensor) -> Tensor:
        third = z[:, 0] / 3.0
        noise = (third * 3.0 - z[:, 0]) + (1e-9 if z.dtype == torch.float64 else -1e-9)
        return torch.stack(
            [z[:, 0] + 0.5 * torch.relu(noise + 0.2 * (z[:, 1] - z[:, 1].detach())), z[:, 1]], 1
        )


def test_a_kink_on_the_wrong_side_is_noticed():
    """The float64 activation pattern is the truth; float32 has another one, and the probes see it."""
    z = torch.full((4, 2), 0.6)
    module = KinkedAt()
    truth = oracle.log_volume(oracle.dense_jacobian(ps.Generator(module, 2), z), 2)
    lv = ps.log_volume(module, z, top_k=2, tol=1e-3, primal="working")
    assert ((lv.value - truth).abs() <= lv.error).all()
    assert lv.converged.all()
    assert lv.recomputed.all()


@pytest.mark.parametrize("method", ["exact", "krylov", "range_finder"])
def test_a_float64_primal_pass_settles_kinks(method):
    """Masks of float64, products of float32: nothing is left to go over again."""
    z = torch.full((4, 2), 0.6)
    truth = oracle.log_volume(oracle.dense_jacobian(ps.Generator(KinkedAt(), 2), z), 1)
    for primal in ("auto", "float64"):
        lv = ps.log_volume(KinkedAt(), z, top_k=1, method=method, tol=1e-3, primal=primal)
        assert ((lv.value - truth).abs() <= lv.error).all()
        assert lv.converged.all()
        assert not lv.recomputed.any()


class Uncapturable(KinkedAt):
    """A branch on the values of a batch, which no graph can hold."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) if z.sum() > -1e6 else z


def test_a_module_that_cannot_be_captured_keeps_its_own_masks_and_two_probes():
    z = torch.full((4, 2), 0.6)
    truth = oracle.log_volume(oracle.dense_jacobian(ps.Generator(KinkedAt(), 2), z), 2)
    with pytest.warns(ps.PolarityWarning, match="cannot be captured"):
        lv = ps.log_volume(Uncapturable(), z, top_k=2, tol=1e-3)
    assert lv.recomputed.all()
    assert ((lv.value - truth).abs() <= lv.error).all()
    with pytest.raises(ValueError, match="neither precision, primal nor cuda_graph can be chosen"):
        ps.log_volume(Uncapturable(), z, top_k=2, primal="float64")


def test_only_a_refused_capture_counts_as_one(monkeypatch):
    def broken(*args: object) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(operator, "CapturedRoute", broken)
    with pytest.raises(ValueError, match="something else"):
        ps.log_volume(KinkedAt(), torch.randn(2, 2), top_k=1)


class Blurred(nn.Module):
    """A product of which float32 loses half the digits, at some latents only."""

    latent_dim = 6

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(20, 6, generator=torch.Generator().manual_seed(seed)))

    def forward(self, z: Tensor) -> Tensor:
        scale = torch.where(z[:, :1] > 3.0, 3e4, 0.0)
        # What is added is taken off again: only rounding is left of it, in products as in samples.
        much = scale * z[:, :1]
        return (z @ self.weight.T + much) - much


def test_one_product_in_float64_sees_more_rounding_than_usual(seed):
    torch.manual_seed(seed)
    module = Blurred(seed)
    z = torch.randn(8, 6).clamp(max=2.0)
    z[4:, 0] = 5.0
    truth = torch.linalg.svdvals(module.weight.double().detach()).log().sum()
    lv = ps.log_volume(module, z, top_k=6, tol=1.0)
    assert not lv.recomputed.any()
    assert (lv.eta[4:] > 10 * lv.eta[:4]).all()
    assert ((lv.value - truth).abs() <= lv.error).all()


def test_refuses_another_primal():
    with pytest.raises(ValueError, match="primal is 'float32'; expected 'auto', 'working' or 'float64'"):
        ps.log_volume(nn.Linear(3, 4), torch.randn(2, 3), primal="float32")


@pytest.mark.parametrize("manifold", ALL, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_form_area_elements(manifold, dtype):
    z = manifold.law.draw(3, torch.arange(200), 2).to(dtype)
    lv = ps.log_volume(ps.Generator(manifold, 2, manifold.law), z, top_k=None)
    # The closed form itself is evaluated in float64 at the very latents that were given.
    truth = manifold.log_volume(z.double())
    assert (lv.value - truth).abs().max() < 1e-6
    assert ((lv.value - truth).abs() <= lv.error).all()


def test_volume_on_a_sphere_is_tangential():
    """A generator that normalises z has an exact null direction; on the sphere it does not count."""

    class Normalising(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return 3.0 * z / z.norm(dim=1, keepdim=True)

    g = ps.Generator(Normalising(), 4, ps.Sphere())
    z = g.base.draw(0, torch.arange(50), 4)
    lv = ps.log_volume(g, z, top_k=None)
    assert lv.singular_values.shape == (50, 3)
    assert (lv.value - 3 * math.log(1.5)).abs().max() < 1e-6  # radius sqrt(4) = 2 stretched to 3
    assert lv.converged.all()


def test_batching_and_memory_do_not_change_the_numbers():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(8, 128), nn.SiLU(), nn.Linear(128, 400)).eval()
    z = torch.randn(70, 8)
    whole = ps.log_volume(module, z, top_k=None)
    small = ps.log_volume(module, z, top_k=None, memory="64KiB")
    single = torch.cat([ps.log_volume(module, z[i : i + 1], top_k=None).value for i in range(70)])
    assert (whole.value - small.value).abs().max() < 1e-5
    assert (whole.value - single).abs().max() < 1e-5
    assert whole.products == 9  # eight columns and a probe


def test_float64_method_agrees():
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 40)).eval()
    z = torch.randn(20, 8)
    exact, double = (ps.log_volume(module, z, top_k=8, method=m) for m in ("exact", "float64"))
    assert double.method == "float64"
    assert double.products == 8
    assert (double.error <= exact.error).all()
    assert ((exact.value - double.value).abs() <= exact.error + double.error).all()


def test_a_module_tied_to_float32_is_told_so():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("matrix", torch.randn(6, 3))

        def forward(self, z: Tensor) -> Tensor:
            if z.dtype != torch.float32:
                raise RuntimeError("this kernel was written for float32")
            return z @ self.matrix.T

    with pytest.warns(ps.PolarityWarning, match="does not run in float64"):
        lv = ps.log_volume(Tied(), torch.randn(2, 3), top_k=3)
    assert torch.isfinite(lv.error).all()
    assert (lv.eta > 5e-6 * lv.singular_values[:, 0]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"top_k": 0}, ValueError, "top_k is 0; expected 'auto', None or an integer in 1..2"),
        ({"top_k": 3}, ValueError, "1..2"),
        ({"top_k": True}, ValueError, "top_k"),
        ({"tol": 0.0}, ValueError, "tol is 0.0"),
        ({"tol": math.nan}, ValueError, "tol"),
        ({"method": "magic"}, ValueError, "method is 'magic'"),
        ({"seed": None}, ValueError, "seed is None; expected an integer"),
        ({"memory": "lots"}, ValueError, "memory is 'lots'"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text.replace("[", r"\[")):
        ps.log_volume(ps.Generator(Affine(), 2), torch.randn(3, 2), **arguments)
