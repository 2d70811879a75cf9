"""Ratios, the roofline, the peers' results, names of devices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from polarity_sampling.precision import fp32_precisions

from benchmarks.kernels import peers, timing
from benchmarks.kernels.__main__ import cases
from benchmarks.kernels.device import file_stem, name_of, tf32
from benchmarks.kernels.measure import figures, measure, precision_of
from benchmarks.kernels.timing import Spread, once, ratio, side_by_side
from tests.ops.backends import CPU, CUDA, DEVICES, Backend
from tests.ops.cases import OPS


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)


def test_what_slows_both_cancels_in_a_ratio() -> None:
    slowdown = [1.0, 7.0, 2.0, 1.5, 30.0]
    assert ratio([3.0 * s for s in slowdown], slowdown) == Spread(3.0, 3.0, 3.0)


def test_the_roofline_is_the_slower_of_copy_and_product() -> None:
    seconds = {"kernel": [4.0] * 5, "copy": [1.0] * 5, "gemm": [0.1] * 5, "aten": [6.0] * 5}
    bound_by_memory = figures(seconds, flops=500, gemm_flops=100)
    bound_by_arithmetic = figures(seconds, flops=3000, gemm_flops=100)
    assert bound_by_memory == {"roofline": Spread(0.25, 0.25, 0.25), "aten": Spread(1.5, 1.5, 1.5)}
    assert bound_by_arithmetic["roofline"].median == pytest.approx(0.75)


def test_the_product_is_of_floats_whatever_the_output() -> None:
    whole, single, double = (torch.ones(2, dtype=d) for d in (torch.int64, torch.float32, torch.float64))
    assert precision_of((whole, double)) == precision_of((single,)) == torch.float32
    assert precision_of((double, whole)) == torch.float64


@pytest.mark.parametrize("backend", DEVICES)
@pytest.mark.parametrize("name", ["weighted_draw", "rectify", "linear_tangents"])
def test_ops_of_every_output_are_measured(
    name: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    row = measure(OPS[name], OPS[name].cases[-1], backend, ("aten",))
    assert set(row.figures) == {"roofline", "aten"}


def test_events_lie_around_a_call_behind_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host launches while the device is busy, so that the first event waits for nothing of the call's."""
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("event")

        def elapsed_time(self, after: "Event") -> float:
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: log.append("pause"))
    assert once(lambda: log.append("call"), "cuda") == 0.25
    assert log == ["synchronize", "pause", "event", "call", "event", "synchronize"]


def test_a_slow_call_is_timed_once_but_not_by_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    took = {"slow": iter([9.0, 3.0]), "loads": iter([9.0, *[0.1] * 100]), "fast": iter([0.1] * 100)}
    monkeypatch.setitem(timing.LONGEST, "cpu", 0.5)
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    monkeypatch.setattr(timing, "once", lambda call, device: next(took[call()]))
    calls: dict[str, timing.Call] = {name: (lambda name=name: name) for name in took}
    seconds = side_by_side(calls, lambda: None, "cpu", cold=False)
    assert seconds == {"slow": [3.0] * 5, "loads": [0.1] * 5, "fast": [0.1] * 5}


def test_tf32_is_a_row_s_own_and_of_a_gpu_alone() -> None:
    def now() -> set[str]:
        return set(fp32_precisions())

    before = now()
    with tf32("cpu", allowed=False):
        assert now() == before
    for allowed in (False, True):
        with tf32("cuda", allowed):
            assert now() == ({"tf32"} if allowed else {"ieee"})
        assert now() == before
    assert [case.name for op in OPS.values() for case in op.gpu_cases if case.tf32] == [
        "tf32: L=128 B=256 1024 to 1024"
    ]


def test_a_gpu_has_rows_of_its_own() -> None:
    for name, op in OPS.items():
        assert cases(name, CUDA) == op.gpu_cases
        assert all(case.perf for case in cases(name, CPU))
    assert set(OPS) >= peers.LIBRARY


def test_calls_take_turns_after_a_preparation() -> None:
    log: list[str] = []
    calls = {name: (lambda name=name: log.append(name)) for name in ("a", "b")}
    seconds = side_by_side(calls, lambda: log.append("."), "cpu", cold=False)
    assert log == [".", "a", ".", "b"] * (len(log) // 4)
    assert len(seconds["a"]) == len(seconds["b"]) == len(log) // 4 - 1 >= 5


def test_names_become_file_names() -> None:
    assert file_stem("Intel(R) Xeon(R) Processor @ 2.90GHz") == "intel-xeon-processor-2.90ghz"
    assert file_stem("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert "/" not in file_stem(name_of("cpu"))
    assert Path(file_stem(name_of("cpu"))).name


class NumPyAsCuPy:
    einsum = staticmethod(np.einsum)
    linalg = np.linalg


@pytest.mark.parametrize("name", peers.CUPY)
def test_the_peer_of_cupy_computes_the_same(name: str, seed: int) -> None:
    op = OPS[name]
    case = next(case for case in op.cases if 0 < case.bytes < 100_000)
    inputs = case.inputs(seed)
    got = peers.CUPY[name](NumPyAsCuPy, *(x.numpy() if isinstance(x, torch.Tensor) else x for x in inputs))
    expected = op.composed(*inputs)
    first = expected if isinstance(expected, torch.Tensor) else expected[0]
    torch.testing.assert_close(torch.from_numpy(got.copy()), first, rtol=1e-4, atol=1e-4)


def test_peers_that_do_not_apply_are_left_out(seed: int) -> None:
    op = OPS["gram"]
    inputs = op.cases[0].inputs(seed)
    assert set(peers.calls(op, inputs, "cpu", ("aten", "cupy"))) == {"aten"}
    assert peers.calls(op, inputs, "cpu", ()) == {}
