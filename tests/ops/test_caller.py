"""Where results are made and on which stream: with stand-ins for CuPy, so that it runs without a GPU."""

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import polarity_ext
from polarity_ext import arrays
from polarity_ext.caller import CPU, CUDA, CUDA_MANAGED, Caller


class GpuArray(np.ndarray):
    """Says that it is on a GPU, and remembers which stream it was asked to be ready on."""

    streams: list[Any]
    kind = CUDA

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 1

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:  # type: ignore[override]
        self.streams.append(stream)
        return "capsule"


def gpu_array() -> GpuArray:
    array = np.ones((2, 3, 4)).view(GpuArray)
    array.streams = []
    return array


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A module `cupy` on NumPy's memory; the contexts that memory was made in."""
    open_now: list[str] = []
    seen: list[str] = []

    @contextlib.contextmanager
    def context(name: str) -> Iterator[None]:
        open_now.append(name)
        yield
        open_now.remove(name)

    def empty(shape: tuple[int, ...], dtype: str) -> np.ndarray:
        seen.extend(open_now)
        return np.empty(shape, dtype)

    cuda = SimpleNamespace(
        Device=lambda index: context(f"device {index}"),
        ExternalStream=lambda pointer, index: context(f"stream {pointer} of device {index}"),
        get_current_stream=lambda: SimpleNamespace(ptr=640 if open_now == ["device 1"] else 0),
    )
    module = SimpleNamespace(ndarray=GpuArray, empty=empty, moveaxis=np.moveaxis, cuda=cuda)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return seen


@pytest.mark.parametrize("kind", [CUDA, CUDA_MANAGED])
def test_the_current_stream_of_the_arrays_device(kind: int, entered: list[str]) -> None:
    y = gpu_array()
    y.kind = kind
    caller = Caller("gram", {"y": y}, {"out": None}, None)
    assert caller.device == (kind, 1)
    assert caller.stream == 640
    assert caller.capsule("y", y) == "capsule"
    assert y.streams == [640]
    caller.empty((2, 4, 4), "float64", (0, 1, 2))
    assert entered == ["device 1"]


def test_an_explicit_stream_also_owns_the_memory(entered: list[str]) -> None:
    y = gpu_array()
    caller = Caller("gram", {"y": y}, {"out": None}, 77)
    caller.capsule("y", y)
    caller.empty((2, 4, 4), "float64", (0, 1, 2))
    assert caller.stream == 77
    assert y.streams == [77]
    assert entered == ["device 1", "stream 77 of device 1"]


def test_the_default_stream_has_another_number_in_dlpack(entered: list[str]) -> None:
    y = gpu_array()
    caller = Caller("gram", {"y": y}, {"out": None}, 0)
    caller.capsule("y", y)
    assert caller.stream == 0
    assert y.streams == [1]


def test_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"CuPy.* not installed; pip install 'polarity-sampling\[cupy\]'"):
        arrays.gram(gpu_array())


@pytest.mark.skipif(bool(polarity_ext.build_info()["cuda"]), reason="this build has CUDA kernels")
def test_no_cuda_kernels(entered: list[str]) -> None:
    with pytest.raises(RuntimeError, match="gram: the arrays are on cuda:1, but this build has no CUDA"):
        arrays.gram(gpu_array())


def test_memory_in_the_order_asked_for() -> None:
    for like, library in ((np.ones(1), np.ndarray), (torch.ones(1), torch.Tensor), (None, np.ndarray)):
        caller = Caller("op", {"x": like}, {}, None)
        assert caller.device == (CPU, 0)
        made = caller.empty((2, 3, 4), "float32", (2, 0, 1))
        assert isinstance(made, library)
        assert tuple(made.shape) == (2, 3, 4)
        assert np.asarray(made).strides == (12, 4, 24)
        assert np.asarray(made).dtype == np.float32
        assert tuple(caller.empty((), "float64", ()).shape) == ()


def test_the_first_array_decides() -> None:
    t, d = torch.ones(2, 3, 4), np.ones((3, 4), np.float32)
    assert isinstance(arrays.scale_tangents(t, d), torch.Tensor)
    assert isinstance(arrays.scale_tangents(t.numpy(), torch.from_numpy(d)), np.ndarray)
