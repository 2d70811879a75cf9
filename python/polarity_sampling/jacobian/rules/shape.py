"""Views, copies and rearrangements: the same numbers elsewhere."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.rules.pointwise import reduced
from polarity_sampling.jacobian.stage import Call, Map, Operand, Residual, Stage, rule

aten = torch.ops.aten


@rule(
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten._reshape_alias.default,
    aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.view_as.default,
    aten._reshape_copy.default,
)  # fmt: skip
def view(call: Call) -> Stage:
    before, after = call["self"].shape, call.out.shape
    # Where the samples stay in front, the number of samples is left open.
    kept = before[:1] == after[:1]
    lead = 2 if kept else 1
    stage = Map(
        lambda t: t.reshape(*t.shape[:lead], *after[lead - 1 :]),
        lambda u: u.reshape(*u.shape[:lead], *before[lead - 1 :]),
        shares=True,
        any_batch=kept,
    )
    stage.any_strides = True
    return stage


@rule(aten.t.default, aten.transpose.int, aten.permute.default, aten.numpy_T.default, aten.mT.default)
def permute(call: Call) -> Stage:
    rank = call["self"].ndim
    dims = list(range(rank))
    if call.op is aten.permute.default:
        dims = [d % rank for d in call["dims"]]
    elif rank >= 2:
        first, second = (0, 1) if call.op is aten.t.default else (-2, -1)
        if call.op is aten.transpose.int:
            first, second = call["dim0"] % rank, call["dim1"] % rank
        dims[first], dims[second] = dims[second], dims[first]
    there = [0, *(d + 1 for d in dims)]
    back = [there.index(i) for i in range(rank + 1)]
    kept = dims[:1] == [0]
    return Map(lambda t: t.permute(there), lambda u: u.permute(back), shares=True, any_batch=kept)


@rule(aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
def expand(call: Call) -> Stage:
    before, after = tuple(call["self"].shape), tuple(call.out.shape)
    missing = (1,) * (len(after) - len(before))
    return Map(
        lambda t: t.reshape(t.shape[0], *missing, *before).expand(-1, *after),
        lambda u: reduced(u, before),
        shares=True,
    )


@rule(aten.slice.Tensor, aten.select.int, aten.narrow.default, aten.diagonal.default, aten.unfold.default)
def part(call: Call) -> Stage:
    """A view of some elements; its transpose writes them into zeros."""
    before, rank = tuple(call["self"].shape), call["self"].ndim
    arguments = {name: value for name, value in call.arguments.items() if name != "self"}
    for name in ("dim", "dim1", "dim2", "dimension"):
        if name in arguments:
            arguments[name] = arguments[name] % rank + 1
    positional = list(arguments.values())
    if call.op is aten.unfold.default and call["step"] < call["size"]:
        return _overlapping(call, before, positional)

    def push(t: Tensor) -> Tensor:
        out: Tensor = call.op(t, *positional)
        return out

    def pull(u: Tensor) -> Tensor:
        whole = u.new_zeros(u.shape[0], *before)
        push(whole).copy_(u)
        return whole

    stage = Map(push, pull)
    stage.push_shares = True
    return stage


def _overlapping(call: Call, before: tuple[int, ...], positional: list[Any]) -> Stage:
    """`unfold` with windows that overlap: elements add up on the way back."""
    dim, size, step = positional

    def pull(u: Tensor) -> Tensor:
        out: Tensor = aten.unfold_backward(u, (u.shape[0], *before), dim, size, step)
        return out

    stage = Map(lambda t: t.unfold(dim, size, step), pull)
    stage.push_shares = True
    return stage


class _Join(Stage):
    """`cat` and `stack` of active and inactive tensors along one dimension."""

    def __init__(self, call: Call, dim: int, new_dim: bool) -> None:
        self._dim, self._new = dim + 1, new_dim
        self._pieces = [(tuple(op.shape), op.active) for op in call["tensors"]]
        self.push_shares, self.pull_shares = False, True
        self._zero_dtype = call.out.dtype

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        given = iter(tangents)
        probes, first = tangents[0].shape[0], tangents[0]
        pieces = []
        for shape, active in self._pieces:
            t = next(given) if active else first.new_zeros(()).expand(probes, *shape)
            pieces.append(t)
        return (torch.stack(pieces, self._dim) if self._new else torch.cat(pieces, self._dim),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        if self._new:
            parts = u.unbind(self._dim)
        else:
            parts = u.split([_size(shape, self._dim) for shape, _ in self._pieces], self._dim)
        return [
            # `cat` skips empty tensors of any rank.
            part.reshape(u.shape[0], *shape)
            for part, (shape, active) in zip(parts, self._pieces, strict=True)
            if active
        ]


def _size(shape: tuple[int, ...], dim: int) -> int:
    return 0 if shape == (0,) and dim > 1 else shape[dim - 1]


@rule(aten.cat.default)
def cat(call: Call) -> Stage:
    return _Join(call, call["dim"] % call.out.ndim, False)


@rule(aten.stack.default)
def stack(call: Call) -> Stage:
    return _Join(call, call["dim"] % call.out.ndim, True)


class _Split(Stage):
    """One tensor into several; unused parts have a zero cotangent."""

    push_shares = True

    def __init__(self, call: Call, cut: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self._cut = cut
        self._before = tuple(call["self"].shape)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        return self._cut(tangents[0])

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        first = next(u for u in cotangents if u is not None)
        whole = first.new_empty(first.shape[0], *self._before)
        for place, u in zip(self._cut(whole), cotangents, strict=True):
            if u is None:
                place.zero_()
            else:
                place.copy_(u)
        return (whole,)


@rule(
    aten.split.Tensor, aten.unsafe_split.Tensor, aten.split_with_sizes.default,
    aten.unsafe_split_with_sizes.default, aten.split.sizes,
)  # fmt: skip
def split(call: Call) -> Stage:
    dim = call["dim"] % call["self"].ndim
    sizes = [out.shape[dim] for out in call.outputs]
    return _Split(call, lambda t: t.split(sizes, dim + 1))


@rule(aten.unbind.int)
def unbind(call: Call) -> Stage:
    dim = call["dim"] % call["self"].ndim
    return _Split(call, lambda t: t.unbind(dim + 1))


class _Scatter(Stage):
    """`slice_scatter` and `select_scatter`: ``src`` written over a part of ``self``."""

    def __init__(self, call: Call) -> None:
        self._base, self._source = call["self"], call["src"]
        dim = call["dim"] % self._base.ndim + 1
        if call.op is aten.select_scatter.default:
            index = call["index"]
            self._place: Callable[[Tensor], Tensor] = lambda t: t.select(dim, index)
        else:
            start, end, step = call["start"], call["end"], call["step"]
            self._place = lambda t: aten.slice(t, dim, start, end, step)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        first = tangents[0]
        if self._base.active:
            whole = first.clone(memory_format=torch.contiguous_format)
        else:
            whole = first.new_zeros(first.shape[0], *self._base.shape)
        if self._source.active:
            self._place(whole).copy_(tangents[-1])
        else:
            self._place(whole).zero_()
        return (whole,)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        found = []
        if self._base.active:
            rest = u.clone(memory_format=torch.contiguous_format)
            self._place(rest).zero_()
            found.append(rest)
        if self._source.active:
            found.append(self._place(u).clone(memory_format=torch.contiguous_format))
        return found


@rule(aten.slice_scatter.default, aten.select_scatter.default)
def scatter(call: Call) -> Stage:
    return _Scatter(call)


@rule(aten.copy.default)
def copy(call: Call) -> Stage | None:
    """All of ``self`` is overwritten by ``src``."""
    if not isinstance(call["src"], Operand) or not call["src"].active:
        return None
    before, after = tuple(call["src"].shape), tuple(call.out.shape)
    inner = Map(lambda t: t, lambda u: u)

    missing = (1,) * (len(after) - len(before))

    def push(t: Tensor) -> Tensor:
        return t.reshape(t.shape[0], *missing, *before).expand(-1, *after).to(call.out.dtype)

    inner = Map(push, lambda u: reduced(u, before).to(call["src"].dtype), shares=True)
    return _Last(inner, call) if call["self"].active else inner


class _Last(Stage):
    """Only the last active input matters; the others get a zero cotangent."""

    push_shares = pull_shares = True

    def __init__(self, inner: Map, call: Call) -> None:
        self._inner = inner
        self._others = [tuple(operand.shape) for operand in call.active[:-1]]

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        return self._inner.push(residual, tangents[-1:], False)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        u = cotangents[0]
        assert u is not None
        zeros = [u.new_zeros(u.shape[0], *shape) for shape in self._others]
        return [*zeros, *self._inner.pull(residual, cotangents, False)]


@rule(aten._to_copy.default)
def convert(call: Call) -> Stage:
    before, after = call["self"].dtype, call.out.dtype
    return Map(lambda t: t.to(after), lambda u: u.to(before), shares=True, any_batch=True)


class Padding(Map):
    """Zeros around: ``pad`` has two numbers for each dimension, from the last one on; negative ones cut."""

    def __init__(self, pad: Sequence[int], rank: int) -> None:
        self.pad = list(pad)
        opposite = [-p for p in self.pad]
        super().__init__(
            lambda t: _padded(t, self.pad), lambda u: _padded(u, opposite), any_batch=len(self.pad) < 2 * rank
        )


@rule(aten.constant_pad_nd.default)
def constant_pad(call: Call) -> Stage:
    return Padding(call["pad"], call.out.ndim)


def _padded(t: Tensor, pad: Sequence[int]) -> Tensor:
    """Zeros around, dimensions kept in the order they lie in memory (torch would put channels first)."""
    strides = list(t.stride())
    for dim in range(1, t.ndim):  # a dimension of one element stays behind the one before it
        strides[dim] = strides[dim - 1] if t.shape[dim] == 1 else strides[dim]
    order = sorted(range(t.ndim), key=lambda dim: -strides[dim])
    # Pairs for the last dimension first, as the operator wants them.
    pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)] + [[0, 0]] * (t.ndim - len(pad) // 2)
    inner = [amount for dim in reversed(order) for amount in pairs[t.ndim - 1 - dim]]
    padded: Tensor = aten.constant_pad_nd(t.permute(order), inner, 0.0)
    return padded.permute([order.index(dim) for dim in range(t.ndim)])


@rule(aten.flip.default)
def flip(call: Call) -> Stage:
    rank = call.out.ndim
    dims = [d % rank + 1 for d in call["dims"]]
    return Map(lambda t: t.flip(dims), lambda u: u.flip(dims), any_batch=1 not in dims)


@rule(aten.roll.default)
def roll(call: Call) -> Stage | None:
    if not call["dims"]:
        return None
    dims = [d % call.out.ndim + 1 for d in call["dims"]]
    shifts = list(call["shifts"])
    back = [-s for s in shifts]
    return Map(lambda t: t.roll(shifts, dims), lambda u: u.roll(back, dims), any_batch=1 not in dims)


@rule(aten.repeat.default)
def repeat(call: Call) -> Stage:
    before = tuple(call["self"].shape)
    times = tuple(call["repeats"])
    padded = (1,) * (len(times) - len(before)) + before
    blocks = [size for pair in zip(times, padded, strict=True) for size in pair]
    dims = [1 + 2 * i for i in range(len(times))]

    def pull(u: Tensor) -> Tensor:
        return u.reshape(u.shape[0], *blocks).sum(dims).reshape(u.shape[0], *before)

    return Map(lambda t: t.reshape(t.shape[0], *padded).repeat(1, *times), pull)


@rule(aten.pixel_shuffle.default, aten.pixel_unshuffle.default)
def pixel_shuffle(call: Call) -> Stage:
    there, back = aten.pixel_shuffle, aten.pixel_unshuffle
    factor = call.arguments.get("upscale_factor", call.arguments.get("downscale_factor"))
    if call.op is aten.pixel_unshuffle.default:
        there, back = back, there
    return Map(lambda t: there(t, factor), lambda u: back(u, factor), any_batch=call.out.ndim > 3)
