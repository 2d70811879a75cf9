"""Where the case table runs: each instruction set of the CPU kernels, CUDA, and the emulator of CUDA."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import polarity_ext
from tests.emulator import build as emulator


@dataclass(frozen=True)
class Backend:
    name: str
    device: str
    instruction_set: str | None = None  # None: the best of this machine

    @property
    def ops(self) -> Any:
        """The raw ops, by schema name."""
        return torch.ops.polarity

    @property
    def cuda_kernels(self) -> bool:
        """Whether CUDA's kernels run, which take larger matrices (Case.cuda_only)."""
        return self.device == "cuda"

    @contextlib.contextmanager
    def active(self, seed: int) -> Iterator[None]:
        before = polarity_ext._C.instruction_set()
        polarity_ext._C.use_instruction_set(self.instruction_set or before)
        try:
            yield
        finally:
            polarity_ext._C.use_instruction_set(before)

    def place(self, value: Any) -> Any:
        """Tensors, in lists too, on this device with the strides and storage offset they have."""
        if isinstance(value, list):
            return [self.place(item) for item in value]
        if not isinstance(value, Tensor) or value.device.type == self.device:
            return value
        flat = value.as_strided((value.untyped_storage().nbytes() // value.element_size(),), (1,), 0)
        return flat.to(self.device).as_strided(value.shape, value.stride(), value.storage_offset())


@dataclass(frozen=True)
class Emulated(Backend):
    """The CUDA kernels on CPU tensors, one fiber for each CUDA thread (tests/emulator)."""

    order: str = "forward"  # in which threads and blocks run

    @property
    def ops(self) -> Any:
        return torch.ops.polarity_emulated

    @property
    def cuda_kernels(self) -> bool:
        return True

    @contextlib.contextmanager
    def active(self, seed: int) -> Iterator[None]:
        reason = emulator.why_not()
        if reason:
            pytest.skip(reason)
        emulator.schedule(emulator.load(emulator.build("emulated_plain")), self.order, seed)
        yield


CPU = Backend("cpu", "cpu")
CUDA = Backend("cuda", "cuda")
LESSER = [Backend(f"cpu-{name}", "cpu", name) for name in polarity_ext._C.instruction_sets()[1:]]

DEVICES = [pytest.param(CPU, id="cpu"), pytest.param(CUDA, id="cuda", marks=pytest.mark.gpu)]
BACKENDS = [*DEVICES, *(pytest.param(backend, id=backend.name) for backend in LESSER)]
EMULATED = [Emulated(f"emulated-{order}", "cpu", order=order) for order in emulator.ORDERS]
TABLE_BACKENDS = [*BACKENDS, *(pytest.param(backend, id=backend.name) for backend in EMULATED)]
