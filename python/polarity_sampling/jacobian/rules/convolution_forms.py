"""Ways to compute one convolution by a fixed weight, and which of them is fastest for its shape.

Images are [N, C, *], with their channels last in memory where there are two dimensions. On a CPU with
AVX-512, as a share of the speed of a matrix product of size 1024: the library reaches 0.9 to 1.1 from 8x8
pixels on, but 0.6 on 4x4, where `slabs` reach 0.8 to 1.2; transposed with 3 channels left, it reaches 0.15
and `interleaved` 0.33; from pixels to pixels of 3 channels it takes twice the time of `each_pixel`.
`winograd` beside the library: `python -m benchmarks.kernels --op winograd`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

import polarity_ext
from polarity_sampling.jacobian.rules.pointwise import COMPILED

aten = torch.ops.aten

Form = Callable[[Tensor], Tensor]

# Where products of slabs beat the library: so few pixels, and so many input times output channels.
_FEW_PIXELS = 16
_MANY_WEIGHTS = 1 << 15
# Winograd's filtering: so many times fewer multiplications, so many channels on both sides, and so many
# tiles of all images that they fill its blocks. Larger tiles where they save so much more.
_SAVED = 1.5
_CHANNELS = 32
_TILES = 64
_LARGER_SAVES = 1.3
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

    def maps_pixels(self, weight: Tensor) -> bool:
        """By a kernel of one pixel, each to the one at its place."""
        plain = set(self.stride) == {1} and set(self.padding) == {0} and self.before == self.after
        return plain and set(weight.shape[2:]) == {1}


def best_form(weight: Tensor, g: Geometry) -> Form:
    """The convolution by this weight as a function of images [N, C, *], for the CPU chosen by shape."""
    if not _plain(weight, g):
        return library(weight, g)
    small = g.before if g.transposed else g.after
    if small == (1, 1):
        return from_one_pixel(weight, g) if g.transposed else to_one_pixel(weight, g)
    few = weight.shape[1 if g.transposed else 0] <= _FEW_CHANNELS
    if few and g.maps_pixels(weight):
        return each_pixel(weight, g)
    tile = winograd_tile(weight, g)
    if tile is not None:
        return winograd_of_many(weight, g, tile)
    if math.prod(small) <= _FEW_PIXELS and weight.shape[0] * weight.shape[1] >= _MANY_WEIGHTS:
        return slabs(weight, g)
    if g.transposed and few and max(g.stride) > 1:
        return interleaved(weight, g)
    return library(weight, g)


def _plain(weight: Tensor, g: Geometry) -> bool:
    """Of images, without groups and dilation, on a CPU."""
    return weight.ndim == 4 and g.groups == 1 and set(g.dilation) == {1} and weight.device.type == "cpu"


def form_bytes(weight: Tensor, g: Geometry) -> int:
    """Of the weight as `best_form` rearranges it, or a little more."""
    tile = winograd_tile(weight, g) if _plain(weight, g) else None
    return weight.nbytes * (1 if tile is None else (tile * g.stride[0]) ** 2 // weight.shape[2] ** 2)


def library(weight: Tensor, g: Geometry) -> Form:
    def form(x: Tensor) -> Tensor:
        if x.ndim == 4 and x.device.type == "cpu":  # else the result may have its channels first again
            x = x.contiguous(memory_format=torch.channels_last)
        out: Tensor = aten.convolution(
            x, weight, None, g.stride, g.padding, g.dilation, g.transposed, g.output_padding, g.groups
        )
        for dim, size in enumerate(g.after):  # an output padding may reach beyond a stride
            out = out if out.shape[2 + dim] == size else out.narrow(2 + dim, 0, size)
        return out

    return form


def winograd_tile(weight: Tensor, g: Geometry) -> int | None:
    """The edge of the tiles by which Winograd's filtering pays; None where it does not."""
    square = len(set(weight.shape[2:])) == len(set(g.stride)) == 1
    fits = square and _taps(weight, g) in (2, 3) and (g.before if g.transposed else g.after) != (1, 1)
    if not fits or min(weight.shape[:2]) < _CHANNELS or weight.dtype not in COMPILED:
        return None
    saved, larger = _saved(weight, g, 4), _saved(weight, g, 6)
    if _taps(weight, g) == 2 or weight.dtype == torch.float64:  # which would take eight times the memory
        larger = 0.0
    tile = 6 if larger >= _LARGER_SAVES * saved else 4
    return tile if max(saved, larger) >= _SAVED else None


def _taps(weight: Tensor, g: Geometry) -> int:
    """Of a phase, along an edge."""
    return -(-weight.shape[2] // g.stride[0])


def _tiles(weight: Tensor, g: Geometry, tile: int) -> int:
    """Of an image, in one phase."""
    stride, step = g.stride[0], tile + 1 - _taps(weight, g)
    # A transposed convolution begins and ends between two strides.
    results = [
        (size - 1 + p) // stride - p // stride + 1 if g.transposed else size
        for size, p in zip(g.after, g.padding, strict=True)
    ]
    return math.prod(-(-count // step) for count in results)


def _saved(weight: Tensor, g: Geometry, tile: int) -> float:
    """How many times fewer multiplications it takes than the plain sum."""
    kernel, stride = weight.shape[2], g.stride[0]
    small = g.before if g.transposed else g.after
    # Phases with one tap less have a point where their weight is zero.
    full = kernel - stride * (_taps(weight, g) - 1)
    points = full * tile + (stride - full) * (tile - 1)
    return math.prod(small) * kernel**2 / (points**2 * _tiles(weight, g, tile))


def winograd_of_many(weight: Tensor, g: Geometry, tile: int) -> Form:
    """By Winograd's filtering where there are tiles enough for it."""
    many, few = winograd(weight, g, tile), library(weight, g)
    tiles = _tiles(weight, g, tile)
    return lambda x: (few if x.shape[0] * tiles < _TILES else many)(x)


def winograd(weight: Tensor, g: Geometry, tile: int = 4) -> Form:
    """Transformed tiles times a transformed weight (`polarity_ext.winograd`)."""
    transformed = polarity_ext.winograd_weight(weight, g.stride[0], g.transposed, tile=tile)
    kernel = weight.shape[2]

    def form(x: Tensor) -> Tensor:
        return polarity_ext.winograd(
            x, transformed, kernel,
            size=g.after, stride=g.stride[0], padding=g.padding, transposed=g.transposed,
        )  # fmt: skip

    return form


def each_pixel(weight: Tensor, g: Geometry) -> Form:
    """By a kernel of one pixel: a matrix product, the matrix [out, in] in memory."""
    matrix = weight[:, :, 0, 0].T if g.transposed else weight[:, :, 0, 0]
    matrix = matrix.contiguous()
    return lambda x: F.linear(x.movedim(1, -1), matrix).movedim(-1, 1)


def from_one_pixel(weight: Tensor, g: Geometry) -> Form:
    """Transposed, of images of one pixel: a matrix product."""
    channels, out_channels, *kernel = weight.shape
    matrix = weight.permute(0, 2, 3, 1).reshape(channels, -1).contiguous()
    wanted = [(p, p + size) for p, size in zip(g.padding, g.after, strict=True)]
    beyond = [max(0, stop - k) for (_, stop), k in zip(wanted, kernel, strict=True)]

    def form(x: Tensor) -> Tensor:
        whole = (x.flatten(1) @ matrix).view(-1, *kernel, out_channels)
        if any(beyond):  # output padding
            whole = F.pad(whole, (0, 0, 0, beyond[1], 0, beyond[0]))
        (top, bottom), (left, right) = wanted
        return whole[:, top:bottom, left:right].permute(0, 3, 1, 2)

    return form


def to_one_pixel(weight: Tensor, g: Geometry) -> Form:
    """To images of one pixel: a matrix product."""
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
    kernel = weight.shape[2:]
    # Where the kernel ends, seen from the last pixel.
    missing = [k - p - size for k, p, size in zip(kernel, g.padding, g.before, strict=True)]

    def form(x: Tensor) -> Tensor:
        pad = (0, 0, g.padding[1], missing[1], g.padding[0], missing[0])
        x = F.pad(x.permute(0, 2, 3, 1), pad) if any(pad) else x.permute(0, 2, 3, 1)
        return (x.reshape(-1, matrix.shape[0]) @ matrix)[:, :, None, None]

    return form


def slabs(weight: Tensor, g: Geometry) -> Form:
    """Matrix products of every row of pixels for each place in the kernel, added up where they belong.

    Images have their pixels in front, [rows, columns, N, C], and those of the larger side are sorted by their
    place between two strides: all pixels of a row that meet the same weight lie in one slab. What the kernel
    finds beyond the border is not computed: 31% of a 3x3 kernel on 4x4 pixels, 23% of a 4x4 one at stride 2.
    """
    taps = weight.permute(2, 3, 0, 1) if g.transposed else weight.permute(2, 3, 1, 0)
    taps = taps.contiguous()
    small, large = (g.before, g.after) if g.transposed else (g.after, g.before)
    stride, padding = g.stride, g.padding
    # Large pixel o is number m behind stride r: o + padding = stride m + r.
    counts = [
        max(-(-(p + size) // s), n + -(-k // s) - 1)
        for p, size, s, n, k in zip(padding, large, stride, small, taps.shape[:2], strict=True)
    ]
    after = [s * m - p - size for s, m, p, size in zip(stride, counts, padding, large, strict=True)]
    meeting = [
        [range(*_inside(small[d], large[d], stride[d], t - padding[d])) for t in range(taps.shape[d])]
        for d in (0, 1)
    ]

    def pairs(few: Tensor, many: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Slabs of the small and of the large side that one weight connects, [rows, many, channels]."""
        for t, rows in enumerate(meeting[0]):
            for u, columns in enumerate(meeting[1]):
                (down, i), (right, j) = divmod(t, stride[0]), divmod(u, stride[1])
                if rows and columns:
                    top, bottom, first, last = rows.start, rows.stop, columns.start, columns.stop
                    yield (
                        few[top:bottom, first:last].flatten(1, 2),
                        many[i, j, top + down : bottom + down, first + right : last + right].flatten(1, 2),
                        taps[t, u].expand(len(rows), -1, -1),
                    )

    def transposed(x: Tensor) -> Tensor:
        many = x.new_zeros(*stride, *counts, x.shape[0], taps.shape[3])
        for pixels, place, tap in pairs(x.permute(2, 3, 0, 1).contiguous(), many):
            place.baddbmm_(pixels, tap)
        whole = many.permute(4, 2, 0, 3, 1, 5).reshape(x.shape[0], stride[0] * counts[0], -1, taps.shape[3])
        whole = whole[:, padding[0] : padding[0] + large[0], padding[1] : padding[1] + large[1]]
        return whole.permute(0, 3, 1, 2)

    def direct(x: Tensor) -> Tensor:
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], after[1], padding[0], after[0]))
        many = x.unflatten(2, (counts[1], stride[1])).unflatten(1, (counts[0], stride[0]))
        few = x.new_zeros(*small, x.shape[0], taps.shape[3])
        for place, pixels, tap in pairs(few, many.permute(2, 4, 1, 3, 0, 5).contiguous()):
            place.baddbmm_(pixels, tap)
        return few.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)

    return transposed if g.transposed else direct


def _inside(small: int, large: int, stride: int, offset: int) -> tuple[int, int]:
    """The range of small pixels n with 0 <= stride n + offset < large."""
    first = max(0, -(offset // stride))
    return first, max(first, min(small, (large - 1 - offset) // stride + 1))


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
