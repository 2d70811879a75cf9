"""The numbers on real pretrained generators, against float64 torch.func."""

import polarity_sampling as ps
import pytest
import torch

from tests import oracle, shared_models

# Latents for which the truth is computed; it costs up to seconds each for the largest network.
COUNTS = {"face_dcgan_digiface64": 1, "celeba_dcgan32": 3, "mnist_wgangp_dcgan": 4, "mario_wgan": 4}
# Where "auto" would take 100 latents of a large network to calibrate, k is given.
TOP_K = {"face_dcgan_digiface64": 30, "celeba_dcgan32": 30, "mnist_wgangp_dcgan": 30, "mario_wgan": 20}


@pytest.fixture(params=shared_models.NAMES, scope="module")
def case(request):
    generator = shared_models.load(request.param)
    # Seeded by the name: fresh for every model, the same in every run.
    seed = sum(request.param.encode())
    z, label = shared_models.latents(generator, COUNTS.get(request.param, 8), seed)
    return generator, z, label, oracle.dense_jacobian(generator, z, label)


def test_products_match_float64(case):
    generator, z, label, truth = case
    J = ps.jacobian(generator, z, label)
    assert J.shape == truth.shape
    gen = torch.Generator().manual_seed(1)
    V = torch.randn(z.shape[0], truth.shape[2], 3, generator=gen)
    U = torch.randn(z.shape[0], truth.shape[1], 3, generator=gen)
    scale = torch.linalg.matrix_norm(truth, 2)[:, None, None]
    # fp32 rounding through a dozen layers, relative to the largest singular value.
    forward = (J @ V - truth @ V.double()).abs() / (scale * V.norm(dim=1, keepdim=True))
    adjoint = (J.mT @ U - truth.mT @ U.double()).abs() / (scale * U.norm(dim=1, keepdim=True))
    assert forward.max() < 1e-5
    assert adjoint.max() < 1e-5
    left = (U.double() * (J @ V).double()).sum(1)
    right = ((J.mT @ U).double() * V.double()).sum(1)
    bound = scale[:, 0] * U.norm(dim=1) * V.norm(dim=1)
    assert ((left - right).abs() / bound).max() < 1e-5


def test_log_volume_is_inside_its_error(case):
    generator, z, label, truth = case
    lv = ps.log_volume(generator, z, label, top_k=TOP_K.get(generator.name, "auto"))
    expected = oracle.log_volume(truth, lv.top_k)
    finite = torch.isfinite(lv.error)
    assert ((lv.value - expected).abs() <= lv.error)[finite].all()
    sigma = torch.linalg.svdvals(truth)[:, : lv.top_k]
    assert (lv.singular_values - sigma).abs().max() <= 1e-5 * sigma.max()


@pytest.mark.parametrize("method", ["krylov", "range_finder"])
def test_low_rank_routes_are_inside_their_error(case, method):
    generator, z, label, truth = case
    top_k = max(1, generator.latent_dim // 8)
    lv = ps.log_volume(generator, z, label, top_k=top_k, method=method)
    expected = oracle.log_volume(truth, top_k)
    finite = torch.isfinite(lv.error)
    assert finite.double().mean() > 0.7
    assert ((lv.value - expected).abs() <= lv.error)[finite].all()
    if method == "krylov":
        assert lv.converged[finite].all()


def test_errors_meet_tol(case):
    generator = case[0]
    # At 100 latents one may miss it; the large networks get as many as a minute allows.
    count = 4 * COUNTS.get(generator.name, 25)
    z, label = shared_models.latents(generator, count, seed=77)
    lv = ps.log_volume(generator, z, label, top_k=TOP_K.get(generator.name, "auto"), tol=1e-2)
    able = lv.rank >= lv.top_k
    assert able.double().mean() > 0.9
    assert (lv.error[able] <= 1e-2).double().mean() >= 0.99
    assert torch.equal(lv.converged, lv.error <= 1e-2)


def test_rank_deficient_latents_are_flagged(case):
    generator, z, label, truth = case
    lv = ps.log_volume(generator, z, label, top_k=None)
    sigma = torch.linalg.svdvals(truth)[:, : lv.top_k]
    # Exact zeros of the truth are noise of 1e-15 there; nothing real lies between.
    certain_rank = (sigma > 1e-5 * sigma[:, :1]).sum(1)
    assert (lv.rank >= certain_rank).all()
    hopeless = sigma[:, -1] < 1e-14 * sigma[:, 0]
    assert torch.isinf(lv.error[hopeless]).all()
    assert torch.isfinite(lv.error[certain_rank == sigma.shape[1]]).all()
