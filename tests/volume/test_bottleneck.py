"""Log-volumes where the first layer passes on r of K directions: n = r, by every route and in every use."""

import math
import random
import warnings

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.samplers.smc.rough import RoughLogVolume
from torch import Tensor, nn

from tests import oracle
from tests.volume.planted import SPECTRA, planted

ROUTES = ["exact", "krylov", "range_finder", "qr", "preconditioned", "float64", "auto"]


class Narrow(nn.Module):
    """Linear(K, r), then a curved map; with a skip connection the latent is seen by more than that layer."""

    def __init__(self, dim: int, rows: int, width: int = 48, classes: int | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(dim, rows)
        self.rest = nn.Sequential(nn.Linear(rows, width), nn.Tanh(), nn.Linear(width, width + 10))
        self.classes = None if classes is None else nn.Embedding(classes, rows)
        self.skip = False

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        hidden = self.first(z)
        if self.classes is not None:
            hidden = hidden * self.classes(label)
        out = self.rest(hidden)
        return torch.cat([out, z.sin()], 1) if self.skip else out


class Decaying(nn.Module):
    """Through r numbers to singular values that fall fast."""

    def __init__(self, dim: int, rows: int, seed: int) -> None:
        super().__init__()
        matrix = planted(SPECTRA["power law"](rows, 1e4), 1, 2 * rows, seed)[0]
        self.first = nn.Parameter(torch.linalg.qr(torch.randn(dim, rows))[0])
        self.mix = nn.Parameter(0.05 * torch.randn(rows, rows))
        self.weight = nn.Parameter(matrix.float())

    def forward(self, z: Tensor) -> Tensor:
        hidden = z @ self.first
        return (hidden + torch.tanh(hidden @ self.mix.T)) @ self.weight.T


@pytest.fixture
def sizes(seed):
    draw = random.Random(seed)
    rows = draw.randint(4, 20)
    return rows + draw.randint(1, 40), rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ROUTES)
def test_every_route_finds_the_values_that_are_not_zero(method, dtype, sizes):
    dim, rows = sizes
    g = ps.Generator(Narrow(dim, rows).to(dtype).eval(), dim)
    z = torch.randn(5, dim).to(dtype)
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(g, z))
    for top_k in (None, max(1, rows // 3)):
        if top_k is None and method in ("krylov", "range_finder"):
            continue  # for some leading values
        lv = ps.log_volume(g, z, top_k=top_k, method=method)
        truth = sigma[:, : top_k or rows].log().sum(1)
        assert lv.singular_values.shape == (5, top_k or rows)
        assert ((lv.value - truth).abs() <= lv.error).all()
        if method != "range_finder":
            assert lv.converged.all()
        if method in ("exact", "float64"):  # others count among the k
            assert (lv.rank == rows).all()


def test_products_are_those_of_the_layer(sizes):
    dim, rows = sizes
    g = ps.Generator(Narrow(dim, rows, width=200).eval(), dim)  # not so small that nothing is checked
    z = torch.randn(5, dim)
    spent = {
        "exact": rows + 1,
        "auto": rows + 1,
        "qr": rows + 1,
        "float64": rows,
        "preconditioned": 2 * rows + 1,
    }
    for method, products in spent.items():
        assert ps.log_volume(g, z, top_k=None, method=method).spent.tolist() == [products] * 5
    assert ps.log_volume(g, z).top_k == rows
    streamed = ps.log_volume(g, z, top_k=None, memory=210 * 4 * rows // 2)  # half the columns of one latent
    whole = ps.log_volume(g, z, top_k=None)
    assert ((streamed.value - whole.value).abs() <= streamed.error + whole.error).all()
    assert streamed.products > whole.products


def test_iterations_work_inside(seed):
    g = ps.Generator(Decaying(200, 128, seed), 200)
    z = torch.randn(30, 200)
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(g, z))
    truth = sigma[:, :6].log().sum(1)
    lv = ps.log_volume(g, z, top_k=6)
    assert lv.method == "krylov"
    assert lv.products < 100
    assert ((lv.value - truth).abs() <= lv.error).all()
    relative = ps.log_volume(g, z, top_k=6, tol=0.05, tol_mode="relative")
    assert relative.method == "fixed_krylov"
    assert relative.spent.double().mean() < 0.75 * 128
    off = relative.value - truth
    assert off.std() < 0.05
    rough = RoughLogVolume.of(g, 6, 1.0, "1GiB")
    assert 6 <= rough.products <= 128 // 3
    assert (rough(z, None) - truth).std() < 1.0


def test_other_generators_keep_all_directions(sizes):
    dim, rows = sizes
    z, label = torch.randn(3, dim), torch.tensor([0, 1, 2])
    skip = Narrow(dim, rows).eval()
    skip.skip = True
    assert ps.log_volume(skip, z, top_k=1, method="exact").products == dim + 1
    assert ps.log_volume(skip, z, top_k=None).converged.all()
    sphere = ps.Generator(Narrow(dim, rows).eval(), dim, ps.Sphere())
    on_it = sphere.base.draw(0, torch.arange(3), dim)
    lv = ps.log_volume(sphere, on_it, top_k=None, method="exact")
    assert lv.singular_values.shape == (3, dim - 1)
    # Behind the layer the class decides; in front of it all latents and classes go through the same.
    conditional = ps.Generator(Narrow(dim, rows, classes=3).eval(), dim, num_classes=3)
    lv = ps.log_volume(conditional, z, label, top_k=None)
    truth = torch.linalg.svdvals(oracle.dense_jacobian(conditional, z, label))[:, :rows].log().sum(1)
    assert lv.singular_values.shape == (3, rows)
    assert ((lv.value - truth).abs() <= lv.error).all()


def test_more_is_refused_with_the_reason(sizes):
    dim, rows = sizes
    g = ps.Generator(Narrow(dim, rows).eval(), dim)
    reason = f"{rows}.*: the first layer passes on {rows} of {dim} directions of the latent"
    with pytest.raises(
        ValueError, match=f"top_k is {rows + 1}; expected 'auto', None or an integer in 1..{reason}"
    ):
        ps.log_volume(g, torch.randn(2, dim), top_k=rows + 1)
    with pytest.raises(ValueError, match=f'top_k={dim}: expected "auto", None \\(all\\) or 1 to {reason}'):
        ps.Bank.build(g, n=4, top_k=dim)
    with pytest.raises(ValueError, match=f"top_k={dim}: expected 1 to {reason}"):
        ps.SMCSampler(g, 1.0, dim)


def test_geometry_of_the_surface(sizes):
    """It has r dimensions; samples have no density by their latents, of which many make the same one."""
    dim, rows = sizes
    g = ps.Generator(Narrow(dim, rows).eval(), dim)
    z = torch.randn(4, dim)
    geometry = ps.local_geometry(g, z)
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(g, z))[:, :rows]
    assert (geometry.rank == rows).all()
    assert ((geometry.scaling - sigma.log().sum(1)).abs() <= geometry.error).all()
    share = sigma / sigma.sum(1, keepdim=True)
    expected = torch.exp(-(share * share.log()).sum(1))
    torch.testing.assert_close(geometry.effective_rank, expected, rtol=1e-4, atol=0)
    assert torch.isnan(geometry.log_density).all()
    with pytest.raises(ps.GeneratorError, match=f"below the latent dimension {dim}"):
        ps.output_entropy(g, n=4)


def test_banks_and_samplers(sizes, tmp_path, seed):
    dim, rows = sizes
    g = ps.Generator(Narrow(dim, rows).eval(), dim)
    bank = ps.Bank.build(
        g, n=48, path=tmp_path / "bank", top_k=None, batch_size=16, shard_rows=16, progress=False
    )
    assert bank.top_k == bank.directions == rows
    value, error = bank.log_volume()
    assert (error <= 1e-2).all()
    truth = oracle.log_volume(oracle.dense_jacobian(g, bank.latents(bank.row_ids)), rows)
    assert ((value - truth).abs() <= error).all()
    assert ps.Bank.open(tmp_path / "bank", g).directions == rows
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # these are all directions that there are
        ps.MagnetSampler(bank)
    sampler = ps.PolaritySampler(bank, rho=0.1)
    expected = torch.softmax(0.1 * truth, 0)
    torch.testing.assert_close(sampler.weights(), expected, rtol=2e-2, atol=0)
    draw = ps.SMCSampler(g, 0.1, None, particles=32).sample(8, seed=seed)
    assert draw.latents.shape == (8, dim)
    assert math.isfinite(draw.diagnostics.ess)
