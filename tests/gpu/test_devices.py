"""Ops run where their tensors are, not on the current device, and leave the current device as it was."""

import pytest
import torch

from polarity_ext import arrays
from tests.gpu.machine import SMALL, Machine, check, place
from tests.ops.cases import Case, Op


@pytest.mark.parametrize(("op", "case"), SMALL)
def test_tensors_of_another_device(op: Op, case: Case, machine: Machine, seed: int) -> None:
    other = torch.device(machine.second_device())
    inputs = case.inputs(seed)
    before = torch.cuda.current_device() if other.type == "cuda" else None
    outputs = op.run(torch.ops.polarity, *place(inputs, str(other)))
    assert all(output.device == other for output in outputs)
    check(op, case, outputs, inputs)
    if before is not None:
        assert torch.cuda.current_device() == before != other.index


def test_arrays_of_another_device(machine: Machine, seed: int) -> None:
    other = torch.device(machine.second_device())
    y = torch.randn(2, 50, 7, device=other, generator=torch.Generator(other).manual_seed(seed))
    got = arrays.gram(y)
    assert got.device == other
    torch.testing.assert_close(got, y.double().mT @ y.double(), rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
def test_tensors_of_two_devices_are_refused() -> None:
    y = torch.ones(1, 2, 3, dtype=torch.float64, device="cuda")
    with pytest.raises(ValueError, match="gram: out is on the CPU, but the call is on cuda:0"):
        arrays.gram(y, out=torch.empty(1, 3, 3, dtype=torch.float64))
