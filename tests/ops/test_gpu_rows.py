"""The rows that fill a GPU: the samples at both ends of the batch against the reference of those alone.

On the CPU perf rows stand in, and the device without numbers for a GPU's memory.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ops.cases import OPS, Case, Op
from tests.ops.cases.case import Inputs, Outputs

# Where the batch lies in the inputs and in the outputs; None: an input of all samples.
BATCH: dict[str, tuple[tuple[int | None, ...], tuple[int, ...]]] = {
    "activation": ((0, None, None), (0, 0)),
    "cholesky": ((0,), (0, 0)),
    "convolve_to_few": ((0, None, None, None, None), (0,)),
    "floored_log_sum": ((0, 0, 0, 0, None), (0, 0, 0)),
    "gaussian_product": ((0, None, None, None), (0,)),
    "gram": ((0,), (0,)),
    "jacobi_singular_values": ((0, None), (0, 0)),
    "layer_gram": ((1, None, 0), (0, 0)),
    "linear_tangents": ((1, None, 0, None), (1,)),
    "mask_tangents": ((1, 0, None, None), (1,)),
    "mask_tangents_": ((1, 0, None, None), (1,)),
    "mlp_tangents": ((1, None, 0, None), (1,)),
    "modulate_cotangents": ((1, 0, 0), (1, 1)),
    "modulate_tangents": ((1, 0, 0, 1), (1,)),
    "modulate_tangents_": ((1, 0, 0, 1), (1,)),
    "normalize_tangents": ((1, 0, 0, None), (1,)),
    "rectify": ((0, None), (0, 0)),
    "scale_tangents": ((1, 0), (1,)),
    "scale_tangents_": ((1, 0), (1,)),
    "softmax_tangents": ((1, 0), (1,)),
    "solve_triangular": ((0, 0), (0,)),
    "symmetric_eigenvalues": ((0, None), (0,)),
    "upfirdn2d": ((0, None, None, None, None), (0,)),
    "winograd": ((0, *[None] * 6), (0,)),
}
STREAMS = ("gaussian", "uniform")
WHOLE = "weighted_draw"  # of which no part can be drawn alone
SEEDED = (*STREAMS, WHOLE, "gaussian_product")  # a seed is drawn as a number, which must be somewhere
SOME = 1000  # numbers of a stream

GPU_ROWS = [
    pytest.param("cuda", op, case, marks=pytest.mark.gpu, id=f"{op.name} {case}")
    for op in OPS.values()
    for case in op.gpu_cases
]
STAND_INS = [
    pytest.param("cpu", op, min((c for c in op.cases if c.perf), key=lambda c: c.bytes), id=f"{op.name} cpu")
    for op in OPS.values()
]


def ends(value: Any, dim: int | None) -> Any:
    """The first and the last sample, on the CPU."""
    if isinstance(value, list):
        return [ends(item, dim) for item in value]
    if not isinstance(value, Tensor) or dim is None:
        return value.cpu() if isinstance(value, Tensor) else value
    index = torch.tensor([0, value.shape[dim] - 1], device=value.device)
    return value.index_select(dim, index).cpu()


def part_of_stream(op: Op, got: Outputs, inputs: Inputs) -> None:
    out, seed, start = inputs
    for first in (0, out.numel() - SOME):
        some = (out.flatten()[first : first + SOME].cpu(),)
        expected = op.reference(torch.empty_like(some[0]), seed, start + first)
        assert op.error(some, expected) == 0


def check_ends(op: Op, case: Case, device: str, seed: int) -> None:
    inputs = case.inputs(seed, device)
    dims, out_dims = BATCH[op.name]
    if op.name == "mlp_tangents" and inputs[0].dim() == 2:  # probes that samples share
        dims = (None, *dims[1:])
    # Before: an op in place leaves nothing of its input.
    some = tuple(ends(value, dim) for value, dim in zip(inputs, dims, strict=True))
    outputs = op.run(torch.ops.polarity, *inputs)
    got = tuple(ends(output, dim) for output, dim in zip(outputs, out_dims, strict=True))
    error = op.error(got, op.reference(*some), *some)
    assert error <= case.tolerance, f"error {error}, allowed {case.tolerance}"


@pytest.mark.parametrize(("device", "op", "case"), [*STAND_INS, *GPU_ROWS])
def test_values(device: str, op: Op, case: Case, seed: int) -> None:
    if op.name in BATCH:
        check_ends(op, case, device, seed)
        return
    inputs = case.inputs(seed, device)
    got = op.run(torch.ops.polarity, *inputs)
    if op.name in STREAMS:
        part_of_stream(op, got, inputs)
        return
    assert op.name == WHOLE
    log_weights, *numbers = inputs
    # The CPU's kernel, which the table of small rows holds against the definition.
    expected = op.run(torch.ops.polarity, log_weights.cpu(), *numbers)
    assert op.error(got, expected, *inputs) == 0


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_rows_are_drawn_and_composed_where_they_are_wanted(op: Op) -> None:
    """The device without numbers takes no tensor of another one, and needs no memory."""
    assert op.gpu_cases
    for case in op.gpu_cases:
        assert case.name not in {other.name for other in op.cases}
        if op.name in SEEDED:
            continue
        with torch.device("meta"):
            inputs = case.make(None)  # type: ignore[arg-type]
        tensors = [x for value in inputs for x in (value if isinstance(value, list) else [value])]
        assert {x.device.type for x in tensors if isinstance(x, Tensor)} == {"meta"}
        op.composed(*inputs)
