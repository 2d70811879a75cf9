"""Ways to compute one convolution by a fixed weight, and which of them is fastest for its shape.

Images are [N, C, *], with their channels last in memory where there are two dimensions. On a CPU with
AVX-512, as a share of the speed of a matrix product of size 1024: the library reaches 0.9 to 1.1 from 8x8
pixels on; from pixels to pixels of 3 channels it takes twice the time of `each_pixel`.
`winograd` and `to_few` beside the library: `python -m benchmarks.kernels --op winograd convolve_to_few`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

import polarity_ext
from polarity_ext import ChainedConvolution
from polarity_sampling.jacobian.rules.pointwise import COMPILED, FEW_CHANNELS

aten = torch.ops.aten

Form = Callable[[Tensor], Tensor]

_DEVICES = ("cpu", "cuda")  # of `polarity_ext`'s kernels
# Winograd's filtering: so many times fewer multiplications (in float64 the library is slow), so many channels
# on both sides, and so many tiles of all images that they fill the registers for which its weight is read.
_SAVED = {torch.float32: 1.5, torch.float64: 1.0}
_CHANNELS = 32
_TILES = {torch.float32: 12, torch.float64: 8}
# Larger tiles where they save so much more. In float64 images are few, and a weight that does not stay in the
# caches of a CPU takes the time that it is read in.
_LARGER_SAVES = 1.1
_READING_SAVES = 1.5
_CACHED_BYTES = 5 << 20
_TILES_OF = {2: (4, 5), 3: (4, 6), 4: (6,)}  # taps of a phase along an edge
# Assumed: multiplications in the time of one of a matrix product, by the library and by filtering.
_LIBRARY_PACE, _FILTERING_PACE = 0.8, 0.6
# Of output channels, at most: as pixels are mapped one by one, and in larger kernels.
_FEW_OF_PIXELS = 8
_FEW_CHANNELS = {torch.float32: FEW_CHANNELS, torch.float64: 31}


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
    """The convolution by this weight as a function of images [N, C, *], chosen by shape."""
    if _filters_alike(weight, g):
        return filtered(weight, g)
    if not _plain(weight, g):
        return library(weight, g)
    small = g.before if g.transposed else g.after
    if small == (1, 1):
        return from_one_pixel(weight, g) if g.transposed else to_one_pixel(weight, g)
    if weight.shape[1 if g.transposed else 0] <= _FEW_OF_PIXELS and g.maps_pixels(weight):
        return each_pixel(weight, g)
    tile = winograd_tile(weight, g)
    if tile is not None:
        return winograd(*turned(weight, g), tile, few=library(weight, g))
    return to_few(weight, g) if _has_few(weight, g) else library(weight, g)


def _has_few(weight: Tensor, g: Geometry) -> bool:
    """Whether its output channels are so few that the library leaves registers empty."""
    if weight.shape[1 if g.transposed else 0] > _FEW_CHANNELS.get(weight.dtype, 0):
        return False
    if g.transposed:
        return len(set(g.stride)) == 1
    return set(g.stride) == {1} and all(p < k for p, k in zip(g.padding, weight.shape[2:], strict=True))


def _plain(weight: Tensor, g: Geometry) -> bool:
    """Of images, without groups and dilation, where there are kernels for it."""
    return weight.ndim == 4 and g.groups == 1 and set(g.dilation) == {1} and weight.device.type in _DEVICES


def _filters_alike(weight: Tensor, g: Geometry) -> bool:
    """Every channel alone by the same filter."""
    apart = weight.ndim == 4 and g.groups == weight.shape[0] > 1 and weight.shape[1] == 1
    known = weight.device.type in _DEVICES and weight.dtype in COMPILED
    return apart and known and set(g.stride) == set(g.dilation) == {1} and bool((weight == weight[:1]).all())


def form_bytes(weight: Tensor, g: Geometry) -> int:
    """Of the weight as `best_form` rearranges it, or a little more."""
    tile = winograd_tile(weight, g) if _plain(weight, g) else None
    return weight.nbytes if tile is None else _bytes(weight, g, tile)


def fast_layout(t: Tensor) -> Tensor:
    """Images with their channels last; the layout of a weight decides that of the output."""
    if t.ndim != 4:
        return t
    t = t.contiguous(memory_format=torch.channels_last)
    # One channel is first and last, and the library takes it for first unless its stride says otherwise.
    return t.as_strided(t.shape, (t.shape[2] * t.shape[3], 1, t.shape[3], 1)) if t.shape[1] == 1 else t


def library(weight: Tensor, g: Geometry) -> Form:
    def form(x: Tensor) -> Tensor:
        if x.device.type == "cpu":  # else the result may have its channels first again
            x = fast_layout(x)
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
    known = _TILES_OF.get(_taps(weight, g), ()) if square else ()
    small = g.before if g.transposed else g.after
    if not known or small == (1, 1) or min(weight.shape[:2]) < _CHANNELS or weight.dtype not in COMPILED:
        return None
    weight, g = turned(weight, g)
    best, most = None, 0.0
    for tile in known:
        saved = _saved(weight, g, tile)
        on_cpu = weight.device.type == "cpu"
        reading = on_cpu and weight.dtype == torch.float64 and _bytes(weight, g, tile) > _CACHED_BYTES
        if saved >= max(_SAVED[weight.dtype], most * (_READING_SAVES if reading else _LARGER_SAVES)):
            best, most = tile, saved
    return best


def pace(weight: Tensor, g: Geometry) -> float:
    """Multiplications of the plain sum that `best_form` stands for in the time of one of a matrix product."""
    tile = winograd_tile(weight, g) if _plain(weight, g) else None
    return _LIBRARY_PACE if tile is None else _FILTERING_PACE * _saved(*turned(weight, g), tile)


def _bytes(weight: Tensor, g: Geometry, tile: int) -> int:
    """Of the weight as `winograd` takes it."""
    return weight.nbytes * (tile * g.stride[0]) ** 2 // weight.shape[2] ** 2


def turned(weight: Tensor, g: Geometry) -> tuple[Tensor, Geometry]:
    """A transposed convolution without a stride as a convolution, by the weight turned around.

    Results of its tiles do not overlap. Where there would be more of them, it stays what it is.
    """
    kernel = tuple(weight.shape[2:])
    wide = any(after > before for before, after in zip(g.before, g.after, strict=True))
    if not g.transposed or set(g.stride) != {1} or wide or any(map(int.__ge__, g.padding, kernel)):
        return weight, g
    padding = tuple(k - 1 - p for k, p in zip(kernel, g.padding, strict=True))
    turned = replace(g, transposed=False, padding=padding, output_padding=(0,) * len(kernel))
    return weight.flip(2, 3).transpose(0, 1), turned


def _taps(weight: Tensor, g: Geometry) -> int:
    """Of a phase, along an edge."""
    return -(-weight.shape[2] // g.stride[0])


def _tiles(weight: Tensor, g: Geometry, tile: int) -> int:
    """Of an image, in one phase."""
    step = tile + 1 - _taps(weight, g)
    return math.prod(-(-count // step) for count in (g.before if g.transposed else g.after))


def _saved(weight: Tensor, g: Geometry, tile: int) -> float:
    """How many times fewer multiplications it takes than the plain sum."""
    kernel, stride = weight.shape[2], g.stride[0]
    small = g.before if g.transposed else g.after
    # Phases with one tap less have a point where their weight is zero.
    full = kernel - stride * (_taps(weight, g) - 1)
    points = full * tile + (stride - full) * (tile - 1)
    return math.prod(small) * kernel**2 / (points**2 * _tiles(weight, g, tile))


@dataclass(frozen=True, eq=False)
class Winograd:
    """Transformed tiles times a transformed weight (`polarity_ext.winograd`)."""

    weight: Tensor
    """From `polarity_ext.winograd_weight`."""
    kernel: int
    geometry: Geometry
    few: Form
    """The form for fewer images than `enough`."""
    enough: int

    def __call__(self, x: Tensor) -> Tensor:
        """Of images [N, C, H, W], or [L, B, C, H, W]."""
        if math.prod(x.shape[:-3]) >= self.enough:
            return self.of_many(x)
        return self.few(x) if x.ndim == 4 else self.few(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def of_many(self, x: Tensor) -> Tensor:
        """However few they are."""
        return self.chained()(x, None)

    def chained(self, slopes: tuple[float, float] = (0.0, 1.0)) -> ChainedConvolution:
        """As one of several, with the rectifier behind it."""
        g = self.geometry
        return ChainedConvolution(
            self.weight, g.after, self.kernel, g.stride[0], g.padding, g.transposed, slopes
        )


def winograd(weight: Tensor, g: Geometry, tile: int = 4, few: Form | None = None) -> Winograd:
    """``few``: the form where there are not tiles enough for it; None: there always are."""
    transformed = polarity_ext.winograd_weight(weight, g.stride[0], g.transposed, tile=tile)
    enough = 0 if few is None else -(-_TILES[weight.dtype] // _tiles(weight, g, tile))
    return Winograd(transformed, weight.shape[2], g, few or library(weight, g), enough)


def filtered(weight: Tensor, g: Geometry) -> Form:
    """All channels by one filter (`polarity_ext.upfirdn2d`), without a stride."""
    kernel = weight.shape[2:]
    taps = weight[0, 0].contiguous() if g.transposed else weight[0, 0].flip(0, 1)
    padding: list[int] = []
    for size, k, p, out in zip(g.before, kernel, g.padding, g.after, strict=True):
        front = k - 1 - p if g.transposed else p
        padding = [front, out - 1 + k - size - front, *padding]  # of x first

    def form(x: Tensor) -> Tensor:
        return polarity_ext.upfirdn2d(fast_layout(x), taps, padding=padding)

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


@dataclass(frozen=True, eq=False)
class ToFew:
    """To few channels (`polarity_ext.convolve_to_few`)."""

    weight: Tensor
    """Of the transposed convolution."""
    stride: int
    padding: tuple[int, ...]
    size: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Of images [N, C, H, W], or [L, B, C, H, W]."""
        return self.chained()(x, None)

    def chained(self) -> ChainedConvolution:
        """As one of several."""
        return ChainedConvolution(
            self.weight, self.size, stride=self.stride, padding=self.padding, to_few=True
        )


def to_few(weight: Tensor, g: Geometry) -> ToFew:
    """Transposed or without a stride."""
    padding = g.padding
    if not g.transposed:
        padding = tuple(k - 1 - p for k, p in zip(weight.shape[2:], g.padding, strict=True))
        weight = weight.flip(2, 3).transpose(0, 1)
    return ToFew(weight.contiguous(), g.stride[0], padding, g.after)
