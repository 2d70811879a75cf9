"""What every op is put through: values over the case table, derivatives, vmap, stray writes."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests.ops.backends import Backend
from tests.ops.cases import Case, Op

Function = Callable[..., Any]


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fresh tensors hold NaN: an element that an op leaves out shows."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def check_values(op: Op, case: Case, backend: Backend, seed: int) -> None:
    inputs = case.inputs(seed)
    expected = op.reference(*inputs)
    with poisoned_memory():
        got = op.run(backend.ops, *(backend.place(value) for value in inputs))
    for tensor, wanted in zip(got, expected, strict=True):
        assert tensor.shape == wanted.shape
        assert tensor.device.type == backend.device
    error = op.error(got, expected, *inputs)
    assert error <= case.tolerance, f"error {error}, allowed {case.tolerance}"


def check_stray_writes(write: Callable[[Tensor], None], size: int, like: Tensor) -> None:
    """``write`` fills a given tensor; at 20 starts within a larger storage nothing around it may change."""
    for start in range(20):
        storage = torch.full((size + 40,), 7.25, dtype=like.dtype, device=like.device)
        write(storage[start : start + size])
        assert bool((storage[:start] == 7.25).all()), f"wrote before a tensor that starts at {start}"
        assert bool((storage[start + size :] == 7.25).all()), f"wrote after a tensor that starts at {start}"


def check_derivatives(function: Function, *inputs: Tensor) -> None:
    """First and second derivatives of float64 inputs against differences, in both modes, batched too."""
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    both = {"check_batched_grad": True, "check_undefined_grad": True}
    assert gradcheck(function, inputs, check_forward_ad=True, check_batched_forward_grad=True, **both)
    assert gradgradcheck(function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True)


def directions(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(x) for x in inputs)


def check_jvp(function: Function, *inputs: Tensor) -> None:
    """torch.func.jvp in float64 against central differences, and in float32 against float64."""
    tangents = directions(inputs)
    _, jvp = torch.func.jvp(function, inputs, tangents)
    h = 1e-5
    up = function(*(x + h * v for x, v in zip(inputs, tangents, strict=True)))
    down = function(*(x - h * v for x, v in zip(inputs, tangents, strict=True)))
    for value, high, low in zip(as_tuple(jvp), as_tuple(up), as_tuple(down), strict=True):
        assert bool(value.abs().max() > 0), "the derivative is zero"
        torch.testing.assert_close(value, (high - low) / (2 * h), rtol=1e-6, atol=1e-8)

    single = torch.func.jvp(function, tuple(x.float() for x in inputs), tuple(v.float() for v in tangents))[1]
    for value, wanted in zip(as_tuple(single), as_tuple(jvp), strict=True):
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-5)


def as_tuple(value: Any) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value)


def check_vmap(function: Function, rows: list[tuple[Tensor, ...]]) -> None:
    """vmap, its jvp and its gradient over every combination of in_dims, against a loop over ``rows``.

    ``rows`` are the inputs of several calls; an argument that is not batched is that of the first row.
    """
    choices = [(None, *range(x.dim() + 1), -1) for x in rows[0]]
    for in_dims in itertools.product(*choices):
        if all(dim is None for dim in in_dims):
            continue
        calls = [
            tuple(row[k] if dim is not None else rows[0][k] for k, dim in enumerate(in_dims)) for row in rows
        ]
        stacked = tuple(
            rows[0][k] if dim is None else torch.stack([row[k] for row in rows], dim)
            for k, dim in enumerate(in_dims)
        )
        batched = torch.func.vmap(function, in_dims)
        expect(batched(*stacked), [function(*call) for call in calls], in_dims)

        tangents = tuple(torch.ones_like(x) for x in stacked)
        tangent_rows = [tuple(torch.ones_like(x) for x in call) for call in calls]
        jvp_rows = [torch.func.jvp(function, call, t)[1] for call, t in zip(calls, tangent_rows, strict=True)]
        expect(torch.func.jvp(batched, stacked, tangents)[1], jvp_rows, in_dims)

        def pushed(*both: Tensor, n: int = len(in_dims)) -> Any:
            return torch.func.jvp(function, both[:n], both[n:])[1]

        expect(torch.func.vmap(pushed, in_dims * 2)(*stacked, *tangents), jvp_rows, in_dims)

        def loss(*arguments: Tensor) -> Tensor:
            return sum((y.cos().sum() for y in as_tuple(function(*arguments))), torch.zeros(()))

        gradient = torch.func.grad(loss, tuple(range(len(in_dims))))
        expect(torch.func.vmap(gradient, in_dims)(*stacked), [gradient(*call) for call in calls], in_dims)


def expect(batched: Any, loop: list[Any], in_dims: tuple[int | None, ...]) -> None:
    for k, value in enumerate(as_tuple(batched)):
        wanted = torch.stack([as_tuple(row)[k] for row in loop])
        torch.testing.assert_close(value, wanted, msg=lambda m: f"in_dims={in_dims}: {m}")
