"""Who calls an entry point of `polarity_ext.arrays`: the library, device and stream of its arrays.

The other half is csrc/python/call.h, which checks the arguments and runs the kernel.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from polarity_ext import _C

CPU, CUDA, CUDA_MANAGED = 1, 2, 13  # device types of DLPack


class SupportsDLPack(Protocol):
    """An array of NumPy, CuPy, torch, JAX or any other library that exports DLPack."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


class _NumPy:
    """Memory of the CPU."""

    module: Any = np
    array: type = np.ndarray
    stream = 0

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return np.empty(shape, dtype)


class _CuPy:
    """Memory of a GPU, from CuPy's pool."""

    def __init__(self, index: int, stream: int | None) -> None:
        try:
            import cupy
        except ImportError as error:
            raise ImportError(
                "polarity_ext.arrays: the arrays are on a GPU, and CuPy, which would make memory there, is "
                "not installed; pip install 'polarity-sampling[cupy]', or pass torch tensors"
            ) from error
        self.module, self.array = cupy, cupy.ndarray
        self._index, self._explicit = index, stream
        with cupy.cuda.Device(index):
            self.stream = int(cupy.cuda.get_current_stream().ptr) if stream is None else stream

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.module.cuda.Device(self._index))
            if self._explicit is not None:  # the pool reuses memory in the order of the stream it was made on
                stack.enter_context(self.module.cuda.ExternalStream(self._explicit, self._index))
            return self.module.empty(shape, dtype)


class _Torch:
    """Memory of torch, on any device."""

    module: Any = torch
    array: type = torch.Tensor

    def __init__(self, device: torch.device, stream: int | None) -> None:
        self._device, self._explicit, self.stream = device, stream, stream or 0
        if stream is None and device.type == "cuda":
            self.stream = torch.cuda.current_stream(device).cuda_stream

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        with contextlib.ExitStack() as stack:
            if self._explicit is not None:  # as for CuPy
                stream = torch.cuda.ExternalStream(self._explicit, device=self._device)
                stack.enter_context(torch.cuda.stream(stream))
            return torch.empty(shape, dtype=getattr(torch, dtype), device=self._device)


class Caller:
    """One call: its arguments by name, and where its results are made.

    Args:
        op: name of the function in ``polarity_ext._C.arrays``.
        inputs: arrays by argument name; the first of them (of the outputs where there is none) decides
            library and device. No array at all means NumPy.
        outputs: arrays to fill, by argument name; None: made here.
        stream: a ``cudaStream_t`` as a number; None: the current stream of the library.
    """

    def __init__(
        self, op: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int | None
    ) -> None:
        self.op, self.inputs, self.outputs = op, inputs, outputs
        given = {name: array for name, array in (*inputs.items(), *outputs.items()) if array is not None}
        for name, array in given.items():
            if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
                raise TypeError(
                    f"{op}: {name} is a {type(array).__name__}; expected an array that exports DLPack "
                    "(NumPy, CuPy, torch, JAX)"
                )
        for name, array in outputs.items():  # those of JAX are immutable, but its DLPack does not say so
            libraries = {kind.__module__.partition(".")[0] for kind in type(array).__mro__}
            if array is not None and not libraries & {"numpy", "cupy", "torch"}:
                raise TypeError(
                    f"{op}: {name} is a {type(array).__name__}; expected an array of NumPy, CuPy or torch, "
                    "which may be written to"
                )
        self._model: Any = next(iter(given.values()), None)
        kind, index = (CPU, 0) if self._model is None else map(int, self._model.__dlpack_device__())
        if kind not in (CPU, CUDA, CUDA_MANAGED):
            raise ValueError(
                f"{op}: {next(iter(given))} is on a device of DLPack type {kind}; expected {CPU} (CPU) or "
                f"{CUDA} (CUDA)"
            )
        self.device = (kind, index)
        self._fills = any(array is not None for array in outputs.values())
        if kind == CPU and stream is not None:
            raise ValueError(f"{op}: stream is {stream}, but the arrays are on the CPU; leave it out")
        self._library: _NumPy | _CuPy | _Torch
        if isinstance(self._model, torch.Tensor):
            self._library = _Torch(self._model.device, stream)
        elif kind == CPU:
            self._library = _NumPy()
        else:
            self._library = _CuPy(index, stream)

    @property
    def stream(self) -> int:
        """What the kernel is launched on."""
        return self._library.stream

    def capsule(self, name: str, array: Any) -> Any:
        """DLPack's view of an array; on a GPU, the stream waits for what its library has yet to do."""
        # The legacy default stream of CUDA, 0, is 1 in this protocol.
        on_cpu = array.__dlpack_device__()[0] == CPU
        keywords: dict[str, Any] = {} if on_cpu else {"stream": self.stream or 1}
        try:
            try:
                return array.__dlpack__(max_version=(1, 0), **keywords)
            except TypeError:  # written before DLPack 1.0
                return array.__dlpack__(**keywords)
        except (BufferError, ValueError, RuntimeError) as error:
            raise BufferError(f"{self.op}: {name} cannot be exported through DLPack: {error}") from error

    def empty(self, shape: tuple[int, ...], dtype: str, order: Sequence[int]) -> Any:
        """New memory of the caller's library, its dimensions in ``order``, the outermost first."""
        dense = self._library.empty(tuple(shape[i] for i in order), dtype)
        return self._library.module.moveaxis(dense, tuple(range(len(shape))), tuple(order))

    def run(self, *parameters: Any) -> Any:
        """The results of the kernel; new ones as arrays of the caller's library, where it names one."""
        results = getattr(_C.arrays, self.op)(self, *parameters)
        native = self._model is None or isinstance(self._model, self._library.array)
        if native or self._fills or not hasattr(self._model, "__array_namespace__"):
            return results
        adopt = self._model.__array_namespace__().from_dlpack
        return tuple(map(adopt, results)) if isinstance(results, tuple) else adopt(results)
