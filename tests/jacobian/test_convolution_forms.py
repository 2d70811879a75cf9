"""Every way to compute a convolution, at every geometry, against torch's own in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from polarity_sampling.jacobian.rules.convolution_forms import (
    Form,
    Geometry,
    ToFew,
    Winograd,
    best_form,
    each_pixel,
    fast_layout,
    from_one_pixel,
    library,
    to_few,
    to_one_pixel,
    turned,
    winograd,
)
from torch import Tensor

size = st.integers(1, 5)


@given(
    transposed=st.booleans(),
    channels=st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 4])),
    pixels=st.tuples(size, size),
    kernel=st.tuples(size, size),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    extra=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    seed=st.integers(0, 2**31),
)
def test_forms_agree(transposed, channels, pixels, kernel, stride, padding, extra, seed):
    gen = torch.Generator().manual_seed(seed)
    extra = extra if transposed and all(e < s for e, s in zip(extra, stride, strict=True)) else (0, 0)
    # No empty results, which torch refuses itself.
    ends = [
        (n - 1) * s - 2 * p + k + e if transposed else n + 2 * p - k + 1
        for n, s, p, k, e in zip(pixels, stride, padding, kernel, extra, strict=True)
    ]
    assume(min(ends) >= 1)
    x = torch.randn(2, channels[0], *pixels, generator=gen, dtype=torch.float64)
    sides = channels if transposed else channels[::-1]
    weight = torch.randn(*sides, *kernel, generator=gen, dtype=torch.float64)

    def convolve(x: Tensor) -> Tensor:
        if transposed:
            return F.conv_transpose2d(x, weight, None, stride, padding, extra)
        return F.conv2d(x, weight, None, stride, padding)

    expected, pullback = torch.func.vjp(convolve, x)
    u = torch.randn(expected.shape, generator=gen, dtype=torch.float64)
    g = Geometry(transposed, stride, padding, (1, 1), extra, 1, pixels, tuple(expected.shape[2:]))
    back = g.adjoint(kernel)
    assert back.adjoint(kernel) == g or extra == (0, 0)
    for geometry, given_, wanted in [(g, x, expected), (back, u, pullback(u)[0])]:
        for form in _forms(weight, geometry):
            torch.testing.assert_close(form(given_), wanted, atol=1e-12, rtol=1e-12)
            last = given_.contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(form(last), wanted, atol=1e-12, rtol=1e-12)


def _forms(weight: Tensor, g: Geometry) -> list[Form]:
    forms = [library(weight, g), best_form(weight, g)]
    if len(set(g.stride)) == 1 and g.transposed:
        forms.append(to_few(weight, g))
    if (g.before if g.transposed else g.after) == (1, 1):
        forms.append((from_one_pixel if g.transposed else to_one_pixel)(weight, g))
    if g.maps_pixels(weight):
        forms.append(each_pixel(weight, g))
    kernel, stride = set(weight.shape[2:]), set(g.stride)
    if len(kernel) == len(stride) == 1:
        for tile in {2: (4, 5), 3: (4, 6), 4: (6,)}.get(-(-min(kernel) // min(stride)), ()):
            forms.append(winograd(weight, g, tile))
            forms.append(winograd(*turned(weight, g), tile))
    return forms


def test_of_one_channel_the_library_too_leaves_channels_last() -> None:
    weight = torch.randn(5, 1, 4, 4)
    g = Geometry(False, (2, 2), (1, 1), (1, 1), (0, 0), 1, (8, 8), (4, 4))
    assert library(fast_layout(weight), g)(torch.randn(2, 1, 8, 8)).stride(1) == 1


def test_to_few_without_a_stride() -> None:
    weight = torch.randn(3, 64, 3, 5)
    g = Geometry(False, (1, 1), (1, 2), (1, 1), (0, 0), 1, (9, 8), (9, 8))
    form, x = best_form(weight, g), torch.randn(2, 64, 9, 8)
    assert isinstance(form, ToFew)
    torch.testing.assert_close(form(x), F.conv2d(x, weight, padding=(1, 2)), rtol=1e-4, atol=1e-4)


@given(
    transposed=st.booleans(),
    pixels=st.tuples(size, size),
    kernel=st.tuples(size, size),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    channels=st.sampled_from([2, 5, 16, 40]),
    seed=st.integers(0, 2**31),
)
def test_one_filter_for_all_channels(transposed, pixels, kernel, padding, channels, seed):
    gen = torch.Generator().manual_seed(seed)
    sign = 1 if transposed else -1
    after = tuple(n + sign * (k - 1 - 2 * p) for n, k, p in zip(pixels, kernel, padding, strict=True))
    assume(min(after) >= 1)
    x = torch.randn(2, channels, *pixels, generator=gen, dtype=torch.float64)
    weight = torch.randn(1, 1, *kernel, generator=gen, dtype=torch.float64).expand(channels, -1, -1, -1)
    convolve = F.conv_transpose2d if transposed else F.conv2d
    expected, pullback = torch.func.vjp(lambda x: convolve(x, weight, padding=padding, groups=channels), x)
    u = torch.randn(expected.shape, generator=gen, dtype=torch.float64)
    g = Geometry(transposed, (1, 1), padding, (1, 1), (0, 0), channels, pixels, after)
    for geometry, given_, wanted in [(g, x, expected), (g.adjoint(kernel), u, pullback(u)[0])]:
        form = best_form(weight, geometry)
        assert form.__qualname__.startswith("filtered")
        torch.testing.assert_close(form(given_), wanted, atol=1e-12, rtol=1e-12)
    other = best_form(torch.cat([weight[1:], weight[:1] + 1.0]), g)
    assert other.__qualname__.startswith("library")


def name_of(form: Form) -> str:
    """Of its class, or of the function that made it."""
    return type(form).__name__ if isinstance(form, Winograd | ToFew) else form.__qualname__.split(".")[0]


@pytest.mark.parametrize(
    ("channels", "pixels", "transposed", "expected"),
    [
        ((512, 256), (4, 4), True, "Winograd"),
        ((512, 16), (4, 4), False, "library"),
        ((512, 256), (8, 8), True, "Winograd"),
        ((512, 256), (8, 8), False, "Winograd"),
        ((512, 16), (8, 8), True, "library"),
        ((64, 64), (4, 4), True, "Winograd"),
        ((64, 3), (32, 32), True, "ToFew"),
        ((64, 3), (32, 32), False, "library"),
        ((100, 512), (1, 1), True, "from_one_pixel"),
    ],
)
def test_choice_by_shape(channels, pixels, transposed, expected):
    weight = torch.zeros(*channels, 4, 4)
    stride = (2, 2) if pixels != (1, 1) else (1, 1)
    padding = (1, 1) if pixels != (1, 1) else (0, 0)
    after = tuple(2 * n for n in pixels) if pixels != (1, 1) else (4, 4)
    before, after = (pixels, after) if transposed else (after, pixels)
    g = Geometry(transposed, stride, padding, (1, 1), (0, 0), 1, before, after)
    assert name_of(best_form(weight, g)) == expected
