"""What is found out once for each generator is found out once, and again when the weights change."""

import polarity_sampling as ps
import torch
from polarity_sampling.volume import calibration
from polarity_sampling.volume.calibration import disagreement, rounding_of
from torch import nn


def test_disagreement_estimates_the_frobenius_norm():
    gen = torch.Generator().manual_seed(0)
    difference = torch.randn(40, 30, generator=gen, dtype=torch.float64)
    probes = torch.randn(30, 2000, generator=gen, dtype=torch.float64)
    estimate = disagreement((difference @ probes)[None], torch.zeros(1, 40, 2000))
    assert abs(float(estimate) / float(difference.norm()) - 1) < 0.05


def test_schatten_estimate_bounds_the_spectral_norm():
    gen = torch.Generator().manual_seed(1)
    for scale in (torch.ones(20), torch.arange(1, 21) ** -1.0):
        difference = torch.randn(200, 20, generator=gen, dtype=torch.float64) * scale
        probes = torch.randn(20, 400, generator=gen, dtype=torch.float64)
        estimate = float(calibration._schatten4((difference @ probes)[None], torch.zeros(1, 200, 400)))
        spectral = float(torch.linalg.matrix_norm(difference, 2))
        assert 0.95 * spectral < estimate < 0.8 * float(difference.norm()) + 0.2 * spectral


def test_measured_again_only_when_the_weights_change(monkeypatch):
    torch.manual_seed(0)
    g = ps.Generator(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6)).eval())
    calls = []
    measure = calibration._measure
    monkeypatch.setattr(calibration, "_measure", lambda *a: calls.append(1) or measure(*a))
    rounding_of(g, torch.float32, "1GiB")
    rounding_of(ps.Generator(g.module), torch.float32, "1GiB")
    assert len(calls) == 1
    with torch.no_grad():
        g.module[0].weight.mul_(2.0)
    rounding_of(g, torch.float32, "1GiB")
    assert len(calls) == 2


def test_rounding_scales_with_the_precision():
    torch.manual_seed(0)
    g = ps.Generator(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6)).eval())
    rounding = rounding_of(g, torch.float32, "1GiB")
    assert rounding.verified
    assert 2**-24 < rounding.eta < 1e-5
    assert rounding.eta64 < 1e-13
