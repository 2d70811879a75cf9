"""`polarity_ext.arrays` under the names and signatures of the raw ops, to run the case table through it."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polarity_ext import arrays
from polarity_ext.ops.activation import ACTIVATIONS
from tests.ops.cases import Op
from tests.ops.cases.case import Inputs, Outputs

KINDS = list(ACTIVATIONS)
# They take torch tensors alone: part of their work is a matrix product of torch's library, or they make and
# take bits.
TORCH_ONLY = {
    "active_convolutions", "layer_gram", "linear_tangents", "mask_tangents", "mask_tangents_", "mlp_tangents",
    "modulate_tangents_", "rectify", "winograd",
}  # fmt: skip


class ArrayOps:
    """Tensors go in as arrays of a library and come out as tensors again, always the same memory.

    An op whose function in `polarity_ext.arrays` takes what the raw op takes needs nothing here.
    """

    def __init__(self, as_array: Callable[[Tensor], Any], as_tensor: Callable[[Any], Tensor]) -> None:
        self._as_array, self._as_tensor = as_array, as_tensor

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            given = (self._as_array(x) if isinstance(x, Tensor) else x for x in arguments)
            got = getattr(arrays, name)(*given)
            return tuple(map(self._as_tensor, got)) if isinstance(got, tuple) else self._as_tensor(got)

        return call

    def gaussian_(self, out: Tensor, seed: int, offset: int) -> None:
        arrays.gaussian(seed, offset, tuple(out.shape), out=self._as_array(out))

    def uniform_(self, out: Tensor, seed: int, offset: int) -> None:
        dtype = "float32" if out.dtype == torch.float32 else "float64"
        arrays.uniform(seed, offset, tuple(out.shape), dtype, out=self._as_array(out))

    def scale_tangents_(self, t: Tensor, d: Tensor) -> None:
        array = self._as_array(t)
        assert arrays.scale_tangents(array, self._as_array(d), out=array) is array

    def activation(self, x: Tensor, kind: int, alpha: float) -> tuple[Tensor, Tensor]:
        named = alpha if ACTIVATIONS[KINDS[kind]] is not None else None
        y, derivative = arrays.activation(self._as_array(x), KINDS[kind], named)
        return self._as_tensor(y), self._as_tensor(derivative)

    def convolve_to_few(self, x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
        *geometry, factor = settings if len(settings) == 4 else (*settings, None)
        out = self._as_tensor(arrays.convolve_to_few(self._as_array(x), self._as_array(weight), *geometry))
        return out if factor is None else out * factor  # arrays are given none


NUMPY_OPS = ArrayOps(lambda tensor: tensor.numpy(), lambda array: torch.from_numpy(np.asarray(array)))
TORCH_OPS = ArrayOps(lambda tensor: tensor, lambda tensor: tensor)


def run_or_refuse(op: Op, ops: ArrayOps, inputs: Inputs) -> Outputs | None:
    """None where the kernel cannot take a tensor as it lies: the torch op copies it, arrays do not."""
    try:
        return op.run(ops, *inputs)
    except ValueError as error:
        views = any(isinstance(x, Tensor) and not x.is_contiguous() for x in inputs)
        if views and re.search("contiguous|another memory order", str(error)):
            return None
        raise


def check_bits(op: Op, ops: ArrayOps, inputs: Inputs, again: Inputs) -> None:
    """The torch op's numbers, bit for bit; ``again`` are the same inputs in other memory."""
    got = run_or_refuse(op, ops, inputs)
    expected = op.run(torch.ops.polarity, *again)
    for value, wanted in zip(expected if got is None else got, expected, strict=True):
        assert (value.shape, value.dtype, value.device) == (wanted.shape, wanted.dtype, wanted.device)
        assert value.cpu().contiguous().numpy().tobytes() == wanted.cpu().contiguous().numpy().tobytes()
