"""What is found out once for each generator is found out once, and again when the weights change."""

import polarity_sampling as ps
import torch
from polarity_sampling.jacobian.captured_route import CapturedRoute
from polarity_sampling.volume import calibration
from polarity_sampling.volume.calibration import disagreement, rounding_of, sum_of_columns, summed_columns
from torch import nn


def test_disagreement_estimates_the_frobenius_norm():
    gen = torch.Generator().manual_seed(0)
    difference = torch.randn(40, 30, generator=gen, dtype=torch.float64)
    probes = torch.randn(30, 2000, generator=gen, dtype=torch.float64)
    estimate = disagreement((difference @ probes)[None], torch.zeros(1, 40, 2000))
    assert abs(float(estimate) / float(difference.norm()) - 1) < 0.05


def test_a_sum_of_columns_is_a_product_with_a_probe():
    for size in (1, 5, 8, 30):
        weights = summed_columns(size)
        assert int((weights != 0).sum()) == min(size, 8)
        torch.testing.assert_close(weights.square().sum(), torch.tensor(float(size)))
        columns = torch.randn(2, 40, size)
        expected = columns.double() @ weights.double()
        torch.testing.assert_close(sum_of_columns(columns), expected, rtol=1e-14, atol=1e-14)


def test_wrong_columns_are_found_out(monkeypatch):
    """By the float64 check, which in the exact route is of the columns themselves."""
    torch.manual_seed(0)
    g = ps.Generator(nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()).eval(), 12)
    z = torch.randn(3, 12)
    right = ps.log_volume(g, z, method="exact")
    assert not right.recomputed.any()
    push = CapturedRoute.push

    def coarse(self, probes):
        out = push(self, probes)
        return out * (1 + 1e-3 * torch.randn(out.shape)) if out.dtype == torch.float32 else out

    monkeypatch.setattr(CapturedRoute, "push", coarse)
    found = ps.log_volume(g, z, method="exact")
    assert found.recomputed.all(), "errors of a thousandth, and tol is a hundredth of a nat"
    torch.testing.assert_close(found.value, right.value, rtol=0, atol=1e-5)


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
