"""GPU arrays through DLPack: torch's and, where it is installed, CuPy's; no copy, the right stream."""

from typing import Any

import pytest
import torch

from polarity_ext import arrays
from tests.gpu.machine import SMALL, Cuda, Machine, place
from tests.ops.array_ops import TORCH_ONLY, TORCH_OPS, ArrayOps, check_bits
from tests.ops.cases import Case, Op

OFFERED = [row for row in SMALL if row.values[0].name not in TORCH_ONLY]


@pytest.fixture
def cupy() -> Any:
    return pytest.importorskip("cupy", reason="CuPy is not installed (pip install 'polarity-sampling[cupy]')")


@pytest.mark.parametrize(("op", "case"), OFFERED)
def test_torch_tensors(op: Op, case: Case, machine: Machine, seed: int) -> None:
    inputs = case.inputs(seed)
    check_bits(op, TORCH_OPS, place(inputs, machine.device), place(inputs, machine.device))


@pytest.mark.gpu
@pytest.mark.parametrize(("op", "case"), OFFERED)
def test_cupy_arrays(op: Op, case: Case, cupy: Any, seed: int) -> None:
    inputs = case.inputs(seed)
    check_bits(
        op, ArrayOps(cupy.from_dlpack, torch.from_dlpack), place(inputs, "cuda"), place(inputs, "cuda")
    )


@pytest.mark.gpu
def test_cupy_in_cupy_out(cupy: Any) -> None:
    y = cupy.random.standard_normal((2, 50, 7))
    out = cupy.empty((2, 7, 7))
    place_of_out = out.data.ptr
    assert arrays.gram(y, out=out) is out
    assert out.data.ptr == place_of_out
    cupy.testing.assert_allclose(out, cupy.einsum("bdi,bdj->bij", y, y), rtol=1e-12, atol=1e-12)
    fresh = arrays.gram(y)
    assert isinstance(fresh, cupy.ndarray)
    cupy.testing.assert_array_equal(fresh, out)
    t, d = cupy.ones((3, 2, 5)), cupy.full((2, 5), 3.0)
    assert arrays.scale_tangents(t, d, out=t) is t
    assert bool((t == 3).all())


@pytest.mark.gpu
def test_cupys_current_stream(cupy: Any) -> None:
    """As in test_streams: what arrives late on the stream must be seen."""
    fresh = cupy.ones((1, 40, 3))
    y = cupy.full_like(fresh, cupy.nan)
    arrays.gram(y)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr)):
            Cuda().sleep()
        y[...] = fresh
        got = arrays.gram(y)
        stream.synchronize()
    assert bool((got == 40).all())


def test_an_explicit_stream_waits_for_the_arrays(machine: Machine) -> None:
    """The input is still being made on the current stream when the op is queued on another one."""
    y = torch.full((1, 40, 3), torch.nan, device=machine.device)
    arrays.gram(y)
    machine.synchronize()
    with machine.side_stream() as stream:
        pass
    machine.sleep()
    y.fill_(1.0)
    got = arrays.gram(y, stream=stream)
    machine.synchronize()
    assert bool((got == 40).all())
