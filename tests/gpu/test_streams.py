"""Ops run on the current stream, in its order, and return while it is still busy."""

import pytest
import torch

from tests.gpu.machine import SMALL, Machine, check, place, poison, refill
from tests.ops.cases import OPS, Case, Op
from tests.ops.checks import poisoned_memory


@pytest.mark.parametrize(("op", "case"), SMALL)
def test_the_order_of_a_stream_holds(op: Op, case: Case, machine: Machine, seed: int) -> None:
    """Inputs arrive late on a side stream: elsewhere an op would read poison, or be overwritten by it."""
    with poisoned_memory():
        inputs = case.inputs(seed)
    placed, fresh = place(inputs, machine.device), place(inputs, machine.device)
    poison(placed)
    op.run(torch.ops.polarity, *place(inputs, machine.device))  # loads the kernels
    machine.synchronize()
    with machine.side_stream():
        machine.sleep()
        refill(placed, fresh)
        got = tuple(output.clone() for output in op.run(torch.ops.polarity, *placed))
    machine.synchronize()
    check(op, case, got, inputs)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_an_op_does_not_wait_for_its_stream(op: Op, machine: Machine, seed: int) -> None:
    placed = place(op.cases[0].inputs(seed), machine.device)
    machine.synchronize()
    with machine.side_stream():
        op.run(torch.ops.polarity, *placed)  # loads the kernels, and fills the stream's pool of memory
        machine.synchronize()
        machine.sleep()
        op.run(torch.ops.polarity, *placed)
        was_busy = machine.is_busy()
    machine.synchronize()
    assert was_busy
