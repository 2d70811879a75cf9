"""Every op can be captured in a CUDA graph: no synchronisation, no allocation outside torch's pools."""

import pytest
import torch

from tests.gpu.machine import SMALL, Machine, check, place, poison, refill
from tests.ops.cases import Case, Op
from tests.ops.checks import poisoned_memory


@pytest.mark.parametrize(("op", "case"), SMALL)
def test_replay_with_fresh_inputs(op: Op, case: Case, machine: Machine, seed: int) -> None:
    inputs = case.inputs(seed)
    placed = place(inputs, machine.device)
    outputs, replay = machine.capture(lambda: op.run(torch.ops.polarity, *placed))
    for again in (1, 2):
        with poisoned_memory():
            drawn = case.inputs(seed + again)
        # Numbers that are not in tensors are part of the captured launch.
        fresh = tuple(
            new if isinstance(new, torch.Tensor | list) else old
            for old, new in zip(inputs, drawn, strict=True)
        )
        poison(outputs)  # before the inputs, of which an output in place is one
        refill(placed, fresh)
        replay()
        machine.synchronize()
        check(op, case, outputs, fresh)
