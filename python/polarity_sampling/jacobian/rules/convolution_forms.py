"""Ways to compute one convolution by a fixed weight, and which of them is fastest for its shape.

Images are [N, C, *], with their channels last in memory where there are two dimensions. On a CPU with
AVX-512, as a share of the speed of a matrix product of size 1024: the library reaches 0.9 to 1.1 from 8x8
pixels on, but 0.6 on 4x4, where `scattered` and `gathered` reach 0.85; transposed with 3 channels left, the
library reaches 0.15 and `interleaved` 0.33.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten

Form = Callable[[Tensor], Tensor]

# Elements of the largest temporary of a form: as much as stays in the cache of a core.
WORKSPACE = 1 << 20

# Where a matrix product beats the library: as few pixels as this, and channels that outweigh the copies.
_FEW_PIXELS = 16
_MANY_CHANNELS = 256
# Fewer output channels than this leave most of a vector register empty.
_FEW_CHANNELS = 8


@dataclass(frozen=True)
class Geometry:
    """All about a convolution but its weight; sizes without batch and channels."""

    transposed: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    def adjoint(self, kernel: tuple[int, ...]) -> "Geometry":
        """The transpose of a convolution is a transposed convolution by the same weight, and conversely."""
        missing = (0,) * len(kernel)
        if not self.transposed:
            missing = tuple(
                size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
                for size, out, s, p, d, k in zip(
                    self.before, self.after, self.stride, self.padding, self.dilation, kernel, strict=True
                )
            )
        return replace(
            self,
            transposed=not self.transposed,
            output_padding=missing,
            before=self.after,
            after=self.before,
        )


def best_form(weight: Tensor, g: Geometry) -> Form:
    """The convolution by this weight as a function of images [N, C, *], for the CPU chosen by shape."""
    plain = weight.ndim == 4 and g.groups == 1 and set(g.dilation) == {1} and weight.device.type == "cpu"
    if plain and g.transposed:
        if (math.prod(g.before) <= _FEW_PIXELS and weight.shape[0] >= _MANY_CHANNELS) or g.before == (1, 1):
            return scattered(weight, g)
        if weight.shape[1] <= _FEW_CHANNELS and max(g.stride) > 1:
            return interleaved(weight, g)
    if plain and not g.transposed and math.prod(g.after) <= _FEW_PIXELS and weight.shape[0] >= _MANY_CHANNELS:
        return gathered(weight, g)
    return library(weight, g)


def library(weight: Tensor, g: Geometry) -> Form:
    def form(x: Tensor) -> Tensor:
        out: Tensor = aten.convolution(
            x, weight, None, g.stride, g.padding, g.dilation, g.transposed, g.output_padding, g.groups
        )
        for dim, size in enumerate(g.after):  # an output padding may reach beyond a stride
            out = out if out.shape[2 + dim] == size else out.narrow(2 + dim, 0, size)
        return out

    return form


def gathered(weight: Tensor, g: Geometry) -> Form:
    """One matrix product by the pixels under the kernel at every place (im2col)."""
    out_channels, channels, *kernel = weight.shape
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, out_channels)
    (top, left), (rows, columns), (down, right) = g.padding, g.after, g.stride

    def form(x: Tensor) -> Tensor:
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, left, top, top)).contiguous()
        image, row, pixel, channel = x.stride()
        windows = x.as_strided(
            (x.shape[0], rows, columns, *kernel, channels),
            (image, row * down, pixel * right, row, pixel, channel),
        )
        out = x.new_empty(x.shape[0], rows * columns, out_channels)
        for part, result in _blocks(windows, out, rows * columns * matrix.shape[0]):
            torch.mm(part.reshape(-1, matrix.shape[0]), matrix, out=result.view(-1, out_channels))
        return out.view(-1, rows, columns, out_channels).permute(0, 3, 1, 2)

    return form


def scattered(weight: Tensor, g: Geometry) -> Form:
    """Transposed: one matrix product, whose rows are added up where their kernels overlap (col2im)."""
    channels, out_channels, *kernel = weight.shape
    matrix = weight.permute(0, 2, 3, 1).reshape(channels, -1).contiguous()
    (rows, columns), (down, right) = g.before, g.stride
    tiles = [-(-k // s) for k, s in zip(kernel, g.stride, strict=True)]
    height, width = rows + tiles[0] - 1, columns + tiles[1] - 1
    # Rows and columns of the result that output padding adds lie beyond every kernel.
    height = max(height, -(-(g.padding[0] + g.after[0]) // down))
    width = max(width, -(-(g.padding[1] + g.after[1]) // right))

    def add_up(x: Tensor, tiled: Tensor) -> None:
        product = x.reshape(-1, channels) @ matrix
        product = product.view(-1, rows, columns, *kernel, out_channels).transpose(2, 3)
        for i in range(tiles[0]):
            for j in range(tiles[1]):
                part = product[:, :, down * i : down * (i + 1), :, right * j : right * (j + 1)]
                tiled[:, i : i + rows, : part.shape[2], j : j + columns, : part.shape[4]].add_(part)

    def form(x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        if rows == columns == 1 and not any(g.output_padding):
            whole = (x.reshape(-1, channels) @ matrix).view(-1, *kernel, out_channels)
        else:
            tiled = x.new_zeros(x.shape[0], height, down, width, right, out_channels)
            for part, result in _blocks(x, tiled, rows * columns * matrix.shape[1]):
                add_up(part, result)
            whole = tiled.view(-1, height * down, width * right, out_channels)
        (top, left), (bottom, side) = g.padding, g.after
        return whole[:, top : top + bottom, left : left + side].permute(0, 3, 1, 2)

    return form


def _blocks(x: Tensor, out: Tensor, elements: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images that together need no more than the workspace, and the place of their results."""
    count = max(1, WORKSPACE // elements)
    return zip(x.split(count), out.split(count), strict=True)


def interleaved(weight: Tensor, g: Geometry) -> Form:
    """Transposed with few channels left: the pixels between two strides as further channels."""
    channels, out_channels, *kernel = weight.shape
    down, right = g.stride
    tiles = [-(-k // s) for k, s in zip(kernel, g.stride, strict=True)]
    # Tap s q + r of the kernel makes pixel r between strides from the input q steps back.
    padded = F.pad(weight, (0, tiles[1] * right - kernel[1], 0, tiles[0] * down - kernel[0]))
    taps = padded.view(channels, out_channels, tiles[0], down, tiles[1], right).flip(2, 4)
    kernels = taps.permute(1, 3, 5, 0, 2, 4).reshape(-1, channels, *tiles)
    kernels = kernels.contiguous(memory_format=torch.channels_last)
    reach = [g.padding[dim] + g.after[dim] for dim in (0, 1)]

    def form(x: Tensor) -> Tensor:
        found = F.conv2d(x, kernels, padding=(tiles[0] - 1, tiles[1] - 1))
        height, width = found.shape[2:]
        blocks = found.view(-1, out_channels, down, right, height, width).permute(0, 1, 4, 2, 5, 3)
        whole = blocks.reshape(-1, out_channels, height * down, width * right)
        missing = [max(0, reach[0] - whole.shape[2]), max(0, reach[1] - whole.shape[3])]
        if any(missing):
            whole = F.pad(whole, (0, missing[1], 0, missing[0]))
        return whole[:, :, g.padding[0] : reach[0], g.padding[1] : reach[1]]

    return form
