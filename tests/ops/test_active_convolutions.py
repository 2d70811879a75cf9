"""ActiveConvolutions: values beside the library's convolutions, what is left out, derivatives, refusals."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

import polarity_ext
from polarity_ext import ActiveConvolution, ActiveConvolutions, active_weight
from tests.ops.backends import CPU, LESSER, Backend
from tests.ops.checks import check_jvp, check_vmap, poisoned_memory

ON_A_CPU = [pytest.param(backend, id=backend.name) for backend in (CPU, *LESSER)]

# Kernel, stride, padding, transposed, channels and size behind.
Layer = tuple[tuple[int, int], int, tuple[int, int], bool, int, tuple[int, int]]
CHAINS: dict[str, tuple[tuple[int, int, int], list[Layer]]] = {
    "DCGAN": (
        (20, 4, 4),
        [((4, 4), 2, (1, 1), True, 18, (8, 8)), ((4, 4), 2, (1, 1), True, 3, (16, 16))],
    ),
    "its-transpose": (
        (3, 16, 16),
        [((4, 4), 2, (1, 1), False, 18, (8, 8)), ((4, 4), 1, (0, 0), False, 7, (5, 5))],
    ),
    "stride-does-not-divide": (
        (9, 3, 5),
        [((3, 3), 2, (0, 1), True, 17, (7, 9)), ((3, 2), 3, (1, 0), True, 5, (8, 24))],
    ),
    "one-pixel": (
        (13, 1, 1),
        [((6, 4), 1, (0, 0), True, 30, (6, 4)), ((6, 4), 1, (0, 0), False, 11, (1, 1))],
    ),
    "cropped-and-beyond": (
        (4, 5, 4),
        [((3, 5), 1, (3, 0), False, 10, (4, 9)), ((4, 2), 2, (3, 1), True, 6, (3, 20))],
    ),
    "rectangular": (
        (5, 2, 7),
        [((1, 3), 1, (0, 1), False, 33, (2, 7)), ((2, 2), 2, (0, 0), True, 1, (4, 14))],
    ),
}


def chain(name: str, dtype: torch.dtype, g: torch.Generator) -> tuple[list[Tensor], list[ActiveConvolution]]:
    """Weights as torch has them, and the convolutions; slopes and orders of bits differ."""
    (channels, *_), layers = CHAINS[name]
    weights, convolutions = [], []
    for i, (kernel, stride, padding, transposed, behind, size) in enumerate(layers):
        shape = (channels, behind) if transposed else (behind, channels)
        weight = torch.randn(*shape, *kernel, generator=g).to(dtype) / math.sqrt(channels * math.prod(kernel))
        weights.append(weight)
        convolutions.append(
            ActiveConvolution(
                active_weight(weight, stride, transposed), kernel, size, stride, padding, transposed,
                slope=1.5, channels_last=i % 2 == 0,
            )
        )  # fmt: skip
        channels = behind
    return weights, convolutions


def images(name: str) -> list[tuple[int, int, int]]:
    first, layers = CHAINS[name]
    return [first, *((behind, *size) for *_, behind, size in layers)]


def factors(kind: str, name: str, batch: int, dtype: torch.dtype, g: torch.Generator) -> list[Tensor | None]:
    """A third of all units is active; "mixed": bits, numbers, none in turn."""
    found: list[Tensor | None] = []
    for i, shape in enumerate(images(name)):
        one = ("bits", "numbers", "none")[i % 3] if kind == "mixed" else kind
        active = torch.rand(batch, *shape, generator=g) < 1 / 3
        if one == "none":
            found.append(None)
        elif one == "numbers":
            numbers = torch.randn(batch, *shape, generator=g).to(dtype) * active
            found.append(numbers.contiguous(memory_format=torch.channels_last) if i % 2 else numbers)
        else:
            found.append(bits_of(active if i % 2 == 0 else active.movedim(1, -1)))
    return found


def bits_of(active: Tensor) -> Tensor:
    """By a rectifier, in the order of the given dimensions; the first image has its channels first."""
    return polarity_ext.rectify(active.contiguous().float() - 0.5, 0.0)[1]


def by_library(name: str, weights: list[Tensor], x: Tensor, given: list[Tensor | None], batch: int) -> Tensor:
    """In float64, one library call for each convolution, all units multiplied."""

    def scaled(t: Tensor, factor: Tensor | None, i: int) -> Tensor:
        if factor is None:
            return t
        if factor.dtype != torch.uint8:
            return t * factor.double()
        shape = images(name)[i]
        ordered = shape if i % 2 == 0 else (*shape[1:], shape[0])
        units = (factor[:, :, None] >> torch.arange(8)) & 1
        active = units.flatten(1)[:, : math.prod(shape)].reshape(batch, *ordered).double()
        active = active if i % 2 == 0 else active.movedim(-1, 1)
        return t * active * (0.5 if i == 0 else 1.5)

    t = scaled(x.double().expand(-1, batch, -1, -1, -1), given[0], 0)
    for i, (weight, layer) in enumerate(zip(weights, CHAINS[name][1], strict=True), start=1):
        _, stride, padding, transposed, _, size = layer
        flat = t.flatten(0, 1)
        room = 40  # of zeros, so that the result has every pixel that is wanted
        if transposed:
            whole = F.conv_transpose2d(F.pad(flat, (0, room, 0, room)), weight.double(), stride=stride)
            out = whole[:, :, padding[0] :, padding[1] :]
        else:
            wide = F.pad(flat, (padding[1], room * stride, padding[0], room * stride))
            out = F.conv2d(wide, weight.double(), stride=stride)
        out = out[:, :, : size[0], : size[1]]
        t = scaled(out.unflatten(0, t.shape[:2]), given[i], i)
    return t


@pytest.mark.parametrize("backend", ON_A_CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["bits", "numbers", "none", "mixed"])
@pytest.mark.parametrize("name", CHAINS)
def test_values(name: str, kind: str, dtype: torch.dtype, backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    weights, convolutions = chain(name, dtype, g)
    call = ActiveConvolutions(convolutions, slope=0.5, channels_last=False)
    # Parts of registers, one and more of them, and more probes than go together.
    for probes, batch, is_shared in ((1, 2, False), (17, 3, True), (70, 1, False), (33, 2, True)):
        given = factors(kind, name, batch, dtype, g)
        is_shared = is_shared and any(factor is not None for factor in given)
        x = torch.randn(probes, 1 if is_shared else batch, *images(name)[0], generator=g).to(dtype)
        x = x.movedim(2, -1).contiguous().movedim(-1, 2) if probes % 2 else x
        with torch.no_grad(), backend.active(seed), poisoned_memory():
            found = call(x, given, channels_last=bool(batch % 2))
        expected = by_library(name, weights, x, given, batch)
        assert found.shape == expected.shape
        allowed = 64 * torch.finfo(dtype).eps * float(expected.abs().max())
        assert float((found.double() - expected).abs().max()) <= allowed
        ordered = found.movedim(-3, -1) if batch % 2 else found
        assert ordered.is_contiguous()


@pytest.mark.parametrize("backend", ON_A_CPU)
def test_a_sample_does_not_see_the_others(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    _, convolutions = chain("DCGAN", torch.float32, g)
    call = ActiveConvolutions(convolutions)
    given = factors("bits", "DCGAN", 5, torch.float32, g)
    x = torch.randn(20, 5, *images("DCGAN")[0], generator=g)
    threads = torch.get_num_threads()
    with torch.no_grad(), backend.active(seed):
        together = call(x, given)
        try:
            torch.set_num_threads(1)
            for b in range(5):
                alone = call(x[:, b : b + 1], [None if f is None else f[b : b + 1] for f in given])
                assert torch.equal(alone[:, 0], together[:, b])
        finally:
            torch.set_num_threads(threads)


def test_what_is_inactive_is_never_read(seed: int) -> None:
    """Neither tangents of inactive units nor numbers of the weight that only they meet."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 7, 4, 4, generator=g)
    x = torch.randn(3, 2, 6, 4, 4, generator=g)
    before, behind = torch.ones(2, 6, 4, 4), torch.ones(2, 7, 8, 8)
    before[:, 2], behind[:, 5], behind[1] = 0.0, 0.0, 0.0
    call = ActiveConvolutions(
        [ActiveConvolution(active_weight(weight, 2, True), (4, 4), (8, 8), 2, (1, 1), True)]
    )
    with torch.no_grad():
        expected = call(x, [before, behind])
        x[:, :, 2] = math.nan
        weight[2], weight[:, 5] = math.nan, math.nan
        poisoned = ActiveConvolution(active_weight(weight, 2, True), (4, 4), (8, 8), 2, (1, 1), True)
        found = ActiveConvolutions([poisoned])(x, [before, behind])
    assert torch.equal(found, expected)
    assert not found[:, :, 5].any()
    assert not found[:, 1].any()


@pytest.mark.parametrize("name", ["DCGAN", "its-transpose", "stride-does-not-divide"])
def test_derivatives(name: str, device: str, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    _, convolutions = chain(name, torch.float64, g)
    placed = [one._replace(weight=one.weight.to(device)) for one in convolutions]
    given = [f if f is None else f.to(device) for f in factors("mixed", name, 2, torch.float64, g)]
    call = ActiveConvolutions(placed, slope=0.5, channels_last=False)
    x = torch.randn(2, 2, *images(name)[0], dtype=torch.float64, device=device)
    with torch.no_grad():
        plain = call(x, given)
    tracked = x.clone().requires_grad_()
    torch.testing.assert_close(call(tracked, given), plain, rtol=1e-12, atol=1e-12)
    # On a GPU the library's backward of a convolution adds in the order in which threads finish.
    nondeterminism = 0.0 if device == "cpu" else 1e-12
    assert gradcheck(lambda x: call(x, given), tracked, check_forward_ad=True, nondet_tol=nondeterminism)

    def function(x: Tensor) -> Tensor:
        steps = [one._replace(weight=one.weight.to(x.dtype)) for one in placed]
        cast = [f if f is None or f.dtype == torch.uint8 else f.to(x.dtype) for f in given]
        return ActiveConvolutions(steps, slope=0.5, channels_last=False)(x, cast)

    check_jvp(function, x)
    check_vmap(function, [(torch.randn_like(x),) for _ in range(2)])


def test_a_weight_is_differentiated(seed: int) -> None:
    weight = torch.randn(3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 1, 3, 2, 2, dtype=torch.float64)

    def function(weight: Tensor) -> Tensor:
        one = ActiveConvolution(active_weight(weight, 2, True), (4, 4), (4, 4), 2, (1, 1), True)
        return ActiveConvolutions([one])(x, [None, None])

    assert gradcheck(function, weight)


@pytest.mark.parametrize("size", [(0, 2), (2, 0)], ids=["no-probes", "no-samples"])
def test_nothing(size: tuple[int, int]) -> None:
    _, convolutions = chain("DCGAN", torch.float32, torch.Generator())
    with torch.no_grad():
        found = ActiveConvolutions(convolutions)(torch.randn(*size, 20, 4, 4), [None, None, None])
    assert found.shape == (*size, 3, 16, 16)


def test_shapes_are_known_without_computing(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for name in CHAINS:
        _, convolutions = chain(name, torch.float32, g)
        given = factors("mixed", name, 2, torch.float32, g)
        call, x = ActiveConvolutions(convolutions), torch.randn(3, 1, *images(name)[0])
        with torch.no_grad():
            for last in (True, False):
                arguments = call.arguments(x, given, last)
                torch.library.opcheck(torch.ops.polarity.active_convolutions.default, arguments)


def test_bad_arguments() -> None:
    weights, convolutions = chain("DCGAN", torch.float32, torch.Generator())
    given = factors("bits", "DCGAN", 2, torch.float32, torch.Generator())
    x = torch.randn(3, 2, 20, 4, 4)
    with pytest.raises(ValueError, match="there are no convolutions"):
        ActiveConvolutions([])
    with pytest.raises(
        ValueError, match=r"weight 0 is \[20, 18, 4, 4\] for a kernel of \[4, 4\] at stride 2"
    ):
        ActiveConvolutions([convolutions[0]._replace(weight=weights[0])])
    with pytest.raises(ValueError, match=r"weight is \[20, 18, 4\]; expected"):
        active_weight(weights[0][..., 0])
    call = ActiveConvolutions(convolutions)
    with torch.no_grad():
        with pytest.raises(ValueError, match="2 factors for 2 convolutions"):
            call(x, given[:2])
        with pytest.raises(RuntimeError, match=r"x must be \[L, B or 1, C, H, W\], got \[2, 20, 4, 4\]"):
            call(x[0], given)
        with pytest.raises(RuntimeError, match=r"B as of the factors, 3"):
            call(torch.randn(3, 3, 20, 4, 4)[:, :2], [torch.ones(3, 20, 4, 4), None, None])
        with pytest.raises(RuntimeError, match=r"bits must be uint8 .* 2 and 1152; factor 1 is \[2, 40\]"):
            call(x, [given[0], given[0], given[2]])
        with pytest.raises(RuntimeError, match=r"factor 2 must be uint8 bits or \[2, 3, 16, 16\]"):
            call(x, [*given[:2], torch.ones(2, 16, 16, 3)])
        with pytest.raises(RuntimeError, match=r"weight 0 must be \[kh, kw, 19, out\]"):
            call(x[:, :, 1:], [None, *given[1:]])
        with pytest.raises(RuntimeError, match="convert one to the other's dtype"):
            call(x.double(), [None, None, None])
        with pytest.raises(RuntimeError, match=r"x is .*Half"):
            call(x.half(), [None, None, None])
    x, weights, given, settings, *rest = call.arguments(x, given, True)
    with pytest.raises(RuntimeError, match="2 weights, 3 factors, 13 settings, 3 slopes and 3 orders"):
        torch.ops.polarity.active_convolutions(x, weights, given, settings[1:], *rest)
    for place, wrong in ((0, 0), (1, -1), (6, 3)):
        changed = [*settings]
        changed[place] = wrong
        with pytest.raises(RuntimeError, match="convolution 0 has a stride of"):
            torch.ops.polarity.active_convolutions(x, weights, given, changed, *rest)


def test_the_table_covers_what_it_says() -> None:
    """Strides that divide the kernel and do not, both directions, more columns than registers hold."""
    layers = [layer for _, chained in CHAINS.values() for layer in chained]
    phased = {all(k % stride == 0 for k in kernel) for kernel, stride, _, t, *_ in layers if t and stride > 1}
    assert phased == {True, False}
    assert {transposed for _, _, _, transposed, *_ in layers} == {True, False}
    assert max(behind for *_, behind, _ in layers) > 24
    assert any(a[1:] < b[1:] for name in CHAINS for a, b in pairwise(images(name)))
