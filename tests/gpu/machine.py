"""What the tests of this folder do to a GPU, and a stand-in on the CPU that does it at once.

The stand-in proves nothing about CUDA. It is there so that everything around the few CUDA calls (inputs,
poison, references, comparison) has run before the first GPU sees it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ops.cases import OPS, Case, Op
from tests.ops.cases.case import Inputs, Outputs

SMALL = [
    pytest.param(op, case, id=f"{op.name} {case}")
    for op in OPS.values()
    for case in op.cases
    if case.bytes < 100_000 and not case.cuda_only
]
Launch = Callable[[], Outputs]


class Cpu:
    device = "cpu"

    def capture(self, launch: Launch) -> tuple[Outputs, Callable[[], None]]:
        outputs = launch()

        def replay() -> None:
            for output, again in zip(outputs, launch(), strict=True):
                if output is not again:
                    output.copy_(again)

        return outputs, replay

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[int | None]:
        yield None

    def sleep(self) -> None:
        return

    def is_busy(self) -> bool:
        return True

    def synchronize(self) -> None:
        return

    def second_device(self) -> str:
        return "cpu"


class Cuda:
    device = "cuda"

    def capture(self, launch: Launch) -> tuple[Outputs, Callable[[], None]]:
        """Outputs of a captured launch, and the replay that fills them."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            launch()  # loads the kernels, which must not happen during a capture
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = launch()
        return outputs, graph.replay

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[int | None]:
        """A current stream that does not wait for the default one; its handle."""
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            yield stream.cuda_stream

    def sleep(self) -> None:
        """Keeps the current stream busy for some 50 ms, while the CPU goes on."""
        torch.cuda._sleep(100_000_000)

    def is_busy(self) -> bool:
        return not torch.cuda.current_stream().query()

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def second_device(self) -> str:
        if torch.cuda.device_count() < 2:
            pytest.skip(f"{torch.cuda.device_count()} CUDA device, this test needs two")
        return "cuda:1"


Machine = Cpu | Cuda


def place(inputs: Inputs, device: str) -> Inputs:
    """The inputs on a device, in memory of their own, with the strides they have."""
    return tuple(_placed(value, device) for value in inputs)


def _placed(value: Any, device: str) -> Any:
    if isinstance(value, list):
        return [_placed(item, device) for item in value]
    if not isinstance(value, Tensor):
        return value
    copy = _whole(value).to(device, copy=True)
    return copy.as_strided(value.shape, value.stride(), value.storage_offset())


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those in lists, too."""
    for value in values:
        if isinstance(value, list):
            yield from _tensors(value)
        elif isinstance(value, Tensor):
            yield value


def _whole(x: Tensor) -> Tensor:
    """All numbers of the storage, those between and around the tensor's too."""
    return x.as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)


def refill(placed: Inputs, fresh: Inputs) -> None:
    """New numbers into the memory of placed tensors, whatever their strides."""
    for old, new in zip(_tensors(placed), _tensors(fresh), strict=True):
        _whole(old).copy_(_whole(new))


def poison(tensors: tuple[Any, ...]) -> None:
    for x in _tensors(tensors):
        _whole(x).fill_(torch.nan if x.is_floating_point() else 85)


def check(op: Op, case: Case, got: Outputs, inputs: Inputs) -> None:
    error = op.error(got, op.reference(*inputs), *inputs)
    assert error <= case.tolerance, f"error {error}, allowed {case.tolerance}"
