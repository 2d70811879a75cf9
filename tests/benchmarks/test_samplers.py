"""The statistics that say what SMC's draws are worth, on chains whose law and memory are known."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from benchmarks.samplers.agreement import Chains, over_time, with_reference
from benchmarks.samplers.efficiency import autocorrelation_time

# Of 58 z-scores the largest exceeds it about once in 10^8 runs.
LARGE = 7.0


def autoregressive(a: float, length: int, chains: int, seed: int) -> torch.Tensor:
    """Chains [T, N] of variance one whose autocorrelation falls by a in every step."""
    noise = torch.randn(length + 200, chains, dtype=torch.float64, generator=torch.manual_seed(seed)).numpy()
    return torch.from_numpy((1 - a * a) ** 0.5 * lfilter([1.0], [1.0, -a], noise, axis=0)[200:])


def chains(a: float, seed: int, drift: float = 0.0) -> Chains:
    x = autoregressive(a, 2000, 64, seed) + drift * torch.linspace(0.0, 1.0, 2000)[:, None].double()
    return Chains(x, (4 * torch.special.ndtr(x)).long()[::5])


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9])
def test_autocorrelation_time(a, seed):
    """(1 + a) / (1 - a). At times an estimate takes noise for memory; a median does not."""
    tau = (1 + a) / (1 - a)
    length = max(50, round(20 * tau))
    found = [autocorrelation_time(autoregressive(a, length, 64, 100 * seed + i)) for i in range(25)]
    # The standard deviation of one is an eighth of it, its bias 5%; that of the median is a thirtieth.
    assert np.median(found) == pytest.approx(tau, rel=1 / 4)


def test_vectors_are_as_slow_as_their_slow_part(seed):
    slow, fast = (autoregressive(a, 800, 64, seed + i) for i, a in enumerate((0.9, 0.0)))
    assert autocorrelation_time(torch.stack([slow, slow, fast], 2)) > 10


def test_chains_of_one_law_agree_and_others_do_not(seed):
    smc, reference = chains(0.5, seed), chains(0.9, seed + 1)
    found = with_reference("case", smc, reference)
    assert [c.quantity for c in found[:4]] == ["mean", "q10", "q50", "q90"]
    assert len(found) == 8  # and four classes
    assert max(abs(c.z) for c in found) < LARGE
    assert found[2].other_value == pytest.approx(0.5, abs=1e-3)
    moved = with_reference("case", Chains(smc.log_volume + 0.5, smc.classes.clamp(max=2)), reference)
    assert min(abs(c.z) for c in moved if c.quantity in ("mean", "q50", "class 2", "class 3")) > LARGE


def test_draws_that_get_worse_are_found(seed):
    assert max(abs(c.z) for c in over_time("case", chains(0.5, seed))) < LARGE
    drifting = over_time("case", chains(0.5, seed, drift=0.5))
    assert drifting[0].z > LARGE
