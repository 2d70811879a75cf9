"""Convolutions one behind the other, of the units alone that are active at a sample."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from polarity_ext.ops.function import differentiable
from polarity_ext.ops.mask_tangents import mask_tangents

_WITHOUT = torch.empty(0)
"""A factor that there is not."""


def _phases(kernel: Sequence[int], stride: int, transposed: bool) -> int:
    """Pixels of results along an edge that see the same pixels before them."""
    return stride if transposed and all(k % stride == 0 for k in kernel) else 1


def active_weight(weight: Tensor, stride: int = 1, transposed: bool = False) -> Tensor:
    """The weight of a convolution as `ActiveConvolution` takes it: rows of numbers for each unit before it.

    Args:
        weight: [out, in, k, l], or [in, out, k, l] of a transposed convolution, as torch has it.
        stride: of the convolution.
        transposed: whose weight it is.

    Returns:
        [k, l, in, out]; transposed, where the stride divides k and l, [k / stride, l / stride, in,
        stride² * out], a number for each of the pixels that see the same ones.

    Raises:
        ValueError: not a weight of images.
    """
    if weight.ndim != 4:
        raise ValueError(f"active_weight: weight is {list(weight.shape)}; expected [out, in, k, l]")
    if not transposed:
        return weight.permute(2, 3, 1, 0).contiguous()
    phases = _phases(weight.shape[2:], stride, True)
    # Tap stride q + p of the kernel is tap q of phase p.
    phased = weight.unflatten(3, (-1, phases)).unflatten(2, (-1, phases))
    rows: Tensor = phased.permute(2, 4, 0, 3, 5, 1).flatten(3)
    return rows.contiguous()


class ActiveConvolution(NamedTuple):
    """One of several, and the rectifier behind it, if there is one."""

    weight: Tensor
    """From `active_weight`, for the same stride and ``transposed``."""
    kernel: tuple[int, int]
    """Of the convolution, as torch has it: (k, l)."""
    size: tuple[int, int]
    """Of its results."""
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    transposed: bool = False
    slope: float = 1.0
    """Of the rectifier above zero; below it is zero."""
    channels_last: bool = True
    """Bits of the rectifier are in the order of rows, columns, channels; else channels come first."""

    @property
    def phases(self) -> int:
        """Along an edge."""
        return _phases(self.kernel, self.stride, self.transposed)

    @property
    def channels(self) -> int:
        """Of its results."""
        return self.weight.shape[3] // self.phases**2

    def __call__(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] by the library, without what is behind it."""
        (top, left), (height, width), phases = self.padding, self.size, self.phases
        if self.transposed:
            parts = self.weight.unflatten(3, (phases, phases, -1))
            weight = parts.permute(2, 5, 0, 3, 1, 4).flatten(4).flatten(2, 3)
            whole = F.conv_transpose2d(x, weight, stride=self.stride)
            below, right = max(0, height + top - whole.shape[2]), max(0, width + left - whole.shape[3])
            return F.pad(whole, (0, right, 0, below))[:, :, top : top + height, left : left + width]
        rows, columns = (self.stride * (n - 1) + k for n, k in zip(self.size, self.kernel, strict=True))
        below, right = max(0, rows - top - x.shape[2]), max(0, columns - left - x.shape[3])
        padded = F.pad(x, (left, right, top, below))[:, :, :rows, :columns]
        return F.conv2d(padded, self.weight.permute(3, 2, 0, 1), stride=self.stride)


class ActiveConvolutions:
    """Convolutions of tangents of images, with the derivative of a ReLU before each and behind it.

    Behind a ReLU all tangents of a sample are zero at the same units. On a CPU these are left out, of what
    is multiplied and of what is computed: a sample goes through all convolutions at a time, as rows of
    probes, one for each unit that is active. Where a fifth of all units is, a convolution between two ReLUs
    takes a twenty-fifth of its multiplications. With few probes, or few zeros, `ConvolutionChain` is faster.
    On CUDA, and where a derivative is asked for, the library convolves all units.

    Args:
        convolutions: in order.
        slope: of the rectifier in front of the first, as of `ActiveConvolution`.
        channels_last: of its bits.

    Raises:
        ValueError: there are no convolutions, or a weight is not that of `active_weight`.
    """

    def __init__(
        self, convolutions: Sequence[ActiveConvolution], *, slope: float = 1.0, channels_last: bool = True
    ) -> None:
        if not convolutions:
            raise ValueError("ActiveConvolutions: there are no convolutions; expected at least one")
        for i, one in enumerate(convolutions):
            taps = tuple(k // one.phases for k in one.kernel)
            if one.weight.ndim != 4 or one.weight.shape[:2] != taps:
                raise ValueError(
                    f"ActiveConvolutions: weight {i} is {list(one.weight.shape)} for a kernel of "
                    f"{list(one.kernel)} at stride {one.stride}; expected {list(taps)} + [in, out], which "
                    "active_weight gives"
                )
        self._all = list(convolutions)
        self._weights = [one.weight for one in convolutions]
        self._slopes = [float(slope), *(float(one.slope) for one in convolutions)]
        self._orders = [int(channels_last), *(int(one.channels_last) for one in convolutions)]
        self._settings = [
            int(number)
            for one in convolutions
            for number in (one.stride, *one.padding, *one.size, one.transposed, one.phases)
        ]

    def __call__(self, x: Tensor, factors: Sequence[Tensor | None], *, channels_last: bool = True) -> Tensor:
        """Applies them to tangents.

        Args:
            x: [L, B, C, H, W], or [L, 1, C, H, W] for the same at all samples; float32 or float64, in any
                strides.
            factors: of x and of what is behind each convolution: bits of `rectify`, uint8 [B, bytes]; or any
                other factor [B, C, H, W], whose zeros are left out as well; or None.
            channels_last: the result has its channels last in memory, else it is contiguous.

        Returns:
            [L, B, O, H', W'].

        Raises:
            RuntimeError: shapes, dtypes or devices do not match.
            ValueError: there is not a factor, or None, for x and each convolution.
        """
        if len(factors) != len(self._all) + 1:
            raise ValueError(
                f"ActiveConvolutions: there are {len(factors)} factors for {len(self._all)} convolutions; "
                "expected one more, None where nothing is multiplied by"
            )
        arguments = self.arguments(x, factors, channels_last)
        if x.device.type != "cpu" or differentiable(x, *self._weights, *factors):
            _check(*arguments)
            return self._by_library(x, factors, channels_last)
        out: Tensor = torch.ops.polarity.active_convolutions(*arguments)
        return out

    def arguments(self, x: Tensor, factors: Sequence[Tensor | None], channels_last: bool) -> tuple[Any, ...]:
        """Of the op itself."""
        given = [_WITHOUT if factor is None else factor for factor in factors]
        return x, self._weights, given, self._settings, self._slopes, self._orders, channels_last

    def _by_library(self, x: Tensor, factors: Sequence[Tensor | None], channels_last: bool) -> Tensor:
        batch = max([x.shape[1], *(factor.shape[0] for factor in factors if factor is not None)])
        x = self._times(x.expand(-1, batch, -1, -1, -1), factors[0], 0)
        for i, (one, factor) in enumerate(zip(self._all, factors[1:], strict=True), start=1):
            out = one(x.flatten(0, 1))
            x = self._times(out.unflatten(0, x.shape[:2]), factor, i)
        return x.movedim(-3, -1).contiguous().movedim(-1, -3) if channels_last else x.contiguous()

    def _times(self, t: Tensor, factor: Tensor | None, i: int) -> Tensor:
        if factor is None:
            return t
        if factor.dtype != torch.uint8:
            return t * factor
        ordered = t.movedim(-3, -1) if self._orders[i] else t
        masked = mask_tangents(ordered, factor, 0.0, self._slopes[i])
        return masked.movedim(-1, -3) if self._orders[i] else masked


def _check(
    x: Tensor,
    weights: Sequence[Tensor],
    factors: Sequence[Tensor],
    settings: Sequence[int],
    slopes: Sequence[float],
    orders: Sequence[int],
    channels_last: bool,
) -> tuple[int, ...]:
    """The shape of the result."""
    torch._check(
        x.dim() == 5,
        lambda: f"active_convolutions: x must be [L, B or 1, C, H, W], got {list(x.shape)}",
    )
    batch = max([x.shape[1], *(factor.shape[0] for factor in factors if factor.dim() > 1)])
    torch._check(
        x.shape[1] in (1, batch),
        lambda: (
            f"active_convolutions: x must be [L, B or 1, C, H, W], B as of the factors, {batch}, "
            f"got {list(x.shape)}"
        ),
    )
    shape = tuple(x.shape[2:])
    for i, factor in enumerate(factors):
        if i > 0:
            weight, phases = weights[i - 1], settings[7 * i - 1]
            before = shape[0]
            torch._check(
                weight.dim() == 4 and weight.shape[2] == before and weight.shape[3] % phases**2 == 0,
                lambda i=i, weight=weight, before=before: (
                    f"active_convolutions: weight {i - 1} must be [kh, kw, {before}, out] of active_weight, "
                    f"got {list(weight.shape)}"
                ),
            )
            shape = (weight.shape[3] // phases**2, *settings[7 * i - 4 : 7 * i - 2])
        is_bits = factor.dtype == torch.uint8
        wanted = (batch, -(-math.prod(shape) // 8)) if is_bits else (batch, *shape)
        torch._check(
            factor.dim() <= 1 or factor.shape == wanted,
            lambda i=i, factor=factor, wanted=wanted: (
                f"active_convolutions: factor {i} is {list(factor.shape)}; expected {list(wanted)}"
            ),
        )
    return (x.shape[0], batch, *shape)


@torch.library.register_fake("polarity::active_convolutions")
def _fake(x: Tensor, *arguments: Any) -> Tensor:
    probes, batch, channels, *size = _check(x, *arguments)
    if arguments[-1]:
        return x.new_empty((probes, batch, *size, channels)).movedim(-1, -3)
    return x.new_empty((probes, batch, channels, *size))


torch.library.register_autocast("polarity::active_convolutions", "cpu", torch.float32)
