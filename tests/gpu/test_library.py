"""Generators that live on a GPU: products, log-volumes, banks and draws, beside float64 and the CPU."""

import copy
import warnings

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.precision import fp32_precisions
from torch import Tensor

from tests import oracle, shared_models
from tests.architectures import ARCHITECTURES
from tests.architectures.kinks import latents_off_kinks
from tests.jacobian.test_models import TOLERANCE, load, probes, relative_error, truth

NAMES = [*ARCHITECTURES, *shared_models.NAMES]
ON_GPU = [pytest.param("cuda", marks=pytest.mark.gpu)]
# Everything around the few CUDA calls has run before the first GPU sees it.
STAND_INS = ["mlp", "wgan-gp"]
METHODS = ["auto", "exact", "krylov", "range_finder", "qr", "preconditioned", "float64"]


def everywhere(names: list) -> pytest.MarkDecorator:
    """All of them on a GPU, a few on the CPU."""
    stand_ins = [pytest.param("cpu", name, id=f"{name}-cpu") for name in STAND_INS]
    gpu = [
        pytest.param(
            "cuda", *getattr(name, "values", [name]), marks=(pytest.mark.gpu, *getattr(name, "marks", ()))
        )
        for name in names
    ]
    return pytest.mark.parametrize(("device", "name"), [*stand_ins, *gpu])


def on(device: str, generator: ps.Generator) -> ps.Generator:
    module = copy.deepcopy(generator.module).to(device)
    return ps.Generator(
        module, generator.latent_dim, generator.base, generator.num_classes, name=generator.name
    )


def moved(device: str, *tensors: Tensor | None) -> list:
    return [None if t is None else t.to(device) for t in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@everywhere(NAMES)
def test_products(name, device, dtype, seed):
    generator = load(name)
    z, label = latents_off_kinks(generator, 3, seed)
    V, U = probes(generator, z, label, 4, seed)
    pushed, pulled = truth(generator, z, label, V, U)
    g = on(device, generator.in_dtype(dtype))
    z, label, V, U = moved(device, z.to(dtype), label, V.to(dtype), U.to(dtype))
    for options in [{}, {"memory": 1}] + [{"cuda_graph": True}] * (device == "cuda"):
        J = ps.jacobian(g, z, label, **options)
        for _ in range(2):  # the second time from what the first has recorded
            push, pull = J @ V, J.mT @ U
            assert push.device.type == pull.device.type == device
            assert relative_error(push.cpu(), pushed) < TOLERANCE[dtype], options
            assert relative_error(pull.cpu(), pulled) < TOLERANCE[dtype], options


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["dcgan", "mlp", "stylegan2-scaled"])
def test_recorded_products_follow_the_probes(name, seed):
    g = on("cuda", load(name))
    z, label = moved("cuda", *latents_off_kinks(load(name), 2, seed))
    J, plain = ps.jacobian(g, z, label, cuda_graph=True), ps.jacobian(g, z, label)
    for count in (3, 5, 3):
        V = torch.randn(2, g.latent_dim, count, device="cuda")
        torch.testing.assert_close(J @ V, plain @ V)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["dcgan", "mlp", "vae-decoder"])
def test_tf32_products_are_close(name, seed):
    g = on("cuda", load(name))
    z, label = moved("cuda", *latents_off_kinks(load(name), 2, seed))
    V = torch.randn(2, g.latent_dim, 4, device="cuda")
    before = fp32_precisions()
    found = ps.jacobian(g, z, label, precision="tf32") @ V
    assert fp32_precisions() == before
    assert relative_error(found, (ps.jacobian(g, z, label) @ V).double()) < 1e-2


@pytest.mark.parametrize("method", METHODS)
@everywhere(shared_models.NAMES)
def test_log_volumes_are_inside_their_errors(name, device, method, seed):
    g = on(device, load(name))
    z, label = moved(device, *shared_models.latents(g, 6, seed))
    top_k = max(1, g.latent_dim // 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lv = ps.log_volume(g, z, label, top_k=top_k, method=method)
    assert lv.value.device.type == device
    truth = oracle.log_volume(oracle.dense_jacobian(g, z, label).cpu(), top_k)
    value, error = lv.value.cpu(), lv.error.cpu()
    finite = torch.isfinite(error)
    assert finite.double().mean() > 0.5
    assert ((value - truth).abs() <= error)[finite].all()


@pytest.mark.parametrize("options", [{"tol_mode": "relative", "tol": 0.05}, {"primal": "working"}], ids=str)
@everywhere(shared_models.NAMES)
def test_options_of_log_volumes(name, device, options, seed):
    g = on(device, load(name))
    z, label = moved(device, *shared_models.latents(g, 8, seed))
    top_k = max(1, min(10, g.latent_dim // 4))
    lv = ps.log_volume(g, z, label, top_k=top_k, **options)
    off = lv.value.cpu() - oracle.log_volume(oracle.dense_jacobian(g, z, label).cpu(), top_k)
    error = lv.error.cpu()
    finite = torch.isfinite(error) & torch.isfinite(off)
    if "tol" in options:
        off = off - off[finite].median()
    assert (off.abs() <= 2 * error)[finite].all()


@everywhere(shared_models.NAMES)
def test_a_bank_and_draws_from_it(name, device, tmp_path, seed):
    g = on(device, load(name))
    top_k = max(1, min(10, g.latent_dim // 4))
    bank = ps.Bank.build(g, n=64, path=tmp_path / "bank", top_k=top_k, seed=seed)
    value, error = bank.log_volume()
    z = bank.latents(bank.row_ids)
    labels = None if bank.labels is None else bank.labels.cpu()
    again = ps.log_volume(load(name), z.cpu()[:4], None if labels is None else labels[:4], top_k=top_k)
    off = (value[:4].cpu() - again.value).abs()
    able = torch.isfinite(off)
    assert (off <= error[:4].cpu() + again.error)[able].all()
    for sampler in (ps.PolaritySampler(bank, rho=-0.5), ps.MagnetSampler(bank)):
        draw = sampler.sample(8, seed=1)
        images = g(draw.latents.to(device), None if draw.labels is None else draw.labels.to(device))
        assert images.device.type == device
        assert torch.isfinite(images).all()
