"""ConvolutionChain: what one call for each convolution gives, derivatives, refusals."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import polarity_ext
from polarity_ext import ChainedConvolution, ConvolutionChain
from tests.ops.backends import Backend
from tests.ops.checks import check_jvp, check_vmap, poisoned_memory


def convolutions(dtype: torch.dtype, device: str = "cpu") -> list[ChainedConvolution]:
    """Up from 3 x 2 pixels, across, down, and to two channels."""

    def weight(*shape: int, stride: int = 1, transposed: bool = False) -> Tensor:
        plain = torch.randn(*shape, dtype=dtype, device=device) / math.prod(shape[1:]) ** 0.5
        return polarity_ext.winograd_weight(plain, stride, transposed)

    few = torch.randn(4, 2, 3, 3, dtype=dtype, device=device)
    return [
        ChainedConvolution(
            weight(5, 32, 4, 4, stride=2, transposed=True), (6, 4), 4, 2, (1, 1), True, (0.2, 1.5)
        ),
        ChainedConvolution(weight(8, 32, 3, 3), (6, 4), 3, 1, (1, 1)),
        ChainedConvolution(weight(4, 8, 4, 4, stride=2), (3, 2), 4, 2, (1, 1), slopes=(0.0, 2.0)),
        ChainedConvolution(few, (5, 3), stride=2, padding=(1, 1), to_few=True),
    ]


def factors(dtype: torch.dtype, device: str = "cpu") -> list[Tensor | None]:
    """Of two samples."""

    def bits(numbers: int) -> Tensor:
        return torch.randint(0, 256, (2, numbers // 8), dtype=torch.uint8, device=device)

    return [bits(32 * 24), None, bits(4 * 6), torch.randn(2, 2, 5, 3, dtype=dtype, device=device)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("leading", [(2,), (3, 2), (2, 1, 2), (0, 2)], ids=str)
def test_the_bits_of_one_call_for_each(
    leading: tuple[int, ...], dtype: torch.dtype, table_backend: Backend
) -> None:
    place, ops = table_backend.place, table_backend.ops
    steps, given = convolutions(dtype), [place(factor) for factor in factors(dtype)]
    expected = x = place(torch.randn(*leading, 5, 3, 2, dtype=dtype))
    for step, factor in zip(steps, given, strict=True):
        weight, padding, size = place(step.weight), list(step.padding), list(step.size)
        if step.to_few:
            expected = ops.convolve_to_few(expected, weight, step.stride, padding, size, factor)
        else:
            settings = step.kernel, step.stride, padding, size, step.transposed
            expected = ops.winograd(expected, weight, *settings, factor, *step.slopes)
    chain = ConvolutionChain([step._replace(weight=place(step.weight)) for step in steps])
    with poisoned_memory():
        found = ops.convolution_chain(*chain.arguments(x, given))
    assert torch.equal(found, expected)
    assert found.is_contiguous()


@pytest.mark.parametrize("ends", [2, 3], ids=["to-many", "to-few"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_more_images_than_caches_hold(dtype: torch.dtype, ends: int) -> None:
    """They go through the chain in parts."""
    up = polarity_ext.winograd_weight(torch.randn(3, 64, 4, 4, dtype=dtype), 2, True)
    across = polarity_ext.winograd_weight(torch.randn(32, 64, 3, 3, dtype=dtype))
    few = torch.randn(32, 2, 3, 3, dtype=dtype)
    steps = [
        ChainedConvolution(up, (24, 24), 4, 2, (1, 1), True, (0.2, 1.0)),
        ChainedConvolution(across, (24, 24), 3, 1, (1, 1)),
        ChainedConvolution(few, (26, 24), padding=(0, 1), to_few=True),
    ][:ends]
    bits = torch.randint(0, 256, (2, 64 * 24 * 24 // 8), dtype=torch.uint8)
    factor = torch.randn(2, 2, 26, 24, dtype=dtype)
    given = [bits, None, factor][:ends]
    x = torch.randn(31, 2, 3, 12, 12, dtype=dtype)  # 9 MB of float32 behind the first
    expected = x
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.no_grad(), poisoned_memory():
            found = ConvolutionChain(steps)(x, given)
            for step, one in zip(steps, given, strict=True):
                expected = step(expected, one)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


def test_derivatives(device: str) -> None:
    steps, given = convolutions(torch.float64, device), factors(torch.float64, device)
    chain = ConvolutionChain(steps)
    x = torch.randn(2, 2, 5, 3, 2, dtype=torch.float64, device=device)
    with torch.no_grad():
        fused = chain(x, given)
    tracked = x.clone().requires_grad_()
    torch.testing.assert_close(chain(tracked, given), fused, rtol=1e-12, atol=1e-12)
    assert gradcheck(lambda x: chain(x, given), tracked, check_forward_ad=True)

    def function(x: Tensor) -> Tensor:  # weights in the dtype that is asked for
        return ConvolutionChain([s._replace(weight=s.weight.to(x.dtype)) for s in steps])(
            x, [f if f is None or f.dtype == torch.uint8 else f.to(x.dtype) for f in given]
        )

    check_jvp(function, x)
    check_vmap(function, [(torch.randn_like(x),) for _ in range(2)])


def test_a_weight_is_not_differentiated_in_silence() -> None:
    steps, given = convolutions(torch.float64), factors(torch.float64)
    steps[1] = steps[1]._replace(weight=steps[1].weight.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="winograd: weight is being differentiated"):
        ConvolutionChain(steps)(torch.randn(2, 2, 5, 3, 2, dtype=torch.float64), given)


def test_shapes_are_known_without_computing() -> None:
    chain = ConvolutionChain(convolutions(torch.float32))
    x, given = torch.randn(3, 2, 5, 3, 2), factors(torch.float32)
    with torch.no_grad():
        torch.library.opcheck(torch.ops.polarity.convolution_chain.default, chain.arguments(x, given))


def test_bad_arguments() -> None:
    steps, given = convolutions(torch.float32), factors(torch.float32)
    x = torch.randn(3, 2, 5, 3, 2)
    with pytest.raises(ValueError, match="there are no convolutions"):
        ConvolutionChain([])
    chain = ConvolutionChain(steps)
    with torch.no_grad():
        with pytest.raises(ValueError, match="3 factors for 4 convolutions"):
            chain(x, given[:3])
        with pytest.raises(RuntimeError, match=r"winograd: x must be .* got x \[3, 2, 4, 3, 2\]"):
            chain(x[:, :, :4], given)
        with pytest.raises(RuntimeError, match=r"winograd: bits must be uint8"):
            chain(x, [given[2], *given[1:]])
        with pytest.raises(RuntimeError, match=r"convolve_to_few: factor must be .* got \[1, 2, 5, 3\]"):
            chain(x, [*given[:3], torch.ones(1, 2, 5, 3)])
    weights, without, settings, slopes = chain.arguments(x, given)[1:]
    with pytest.raises(RuntimeError, match="4 weights, 4 factors, 31 settings and 8 slopes"):
        torch.ops.polarity.convolution_chain(x, weights, without, settings[1:], slopes)
