"""Kernels beyond 2^31 elements: the last block of a launch runs, on memory of which it touches little."""

import mmap
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import polarity_ext
from tests.emulator import build as emulator
from tests.ops.references import gram_ref, upfirdn2d_ref

THREADS = 65536 * 256  # of the largest grid: each takes every THREADS-th item, the last block the last items
COUNT = 2**31 + 4 * THREADS
NORESERVE = 0x4000  # MAP_NORESERVE of Linux: address space without the promise of memory
TAIL = 256  # items of one block at the end


@pytest.fixture
def library() -> Iterator[Any]:
    library = emulator.load(emulator.build("emulated_plain"))
    emulator.schedule(library, "forward", 0)
    with emulator.last_blocks(library, 1):
        yield library


def sparse(count: int, dtype: torch.dtype) -> Tensor:
    """Zeros that take no memory until they are written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize, flags=flags), dtype=dtype)


def test_gaussian(library: Any, seed: int) -> None:
    out = sparse(COUNT, torch.float32)
    torch.ops.polarity_emulated.gaussian_(out, seed, 0)
    assert torch.equal(out[-TAIL:], polarity_ext.gaussian(seed, COUNT - TAIL, (TAIL,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform(library: Any, dtype: torch.dtype, seed: int) -> None:
    out = sparse(COUNT, dtype)
    torch.ops.polarity_emulated.uniform_(out, seed, 0)
    assert torch.equal(out[-TAIL:], polarity_ext.uniform(seed, COUNT - TAIL, (TAIL,), dtype=dtype))


@pytest.mark.parametrize("name", ["relu", "silu"])
def test_activation(library: Any, name: str) -> None:
    x = sparse(COUNT, torch.float32)
    x[-TAIL:] = torch.randn(TAIL)
    kind = list(polarity_ext.ACTIVATIONS).index(name)
    try:
        torch.empty(COUNT), torch.empty(COUNT)  # as the op will allocate
    except RuntimeError:
        pytest.skip("this machine does not promise 18 GB of memory")
    got = torch.ops.polarity_emulated.activation(x, kind, 0.0)
    for value, wanted in zip(got, polarity_ext.activation(x[-TAIL:], name), strict=True):
        torch.testing.assert_close(value[-TAIL:], wanted)


@pytest.mark.parametrize("first", [0, 1], ids=["quads", "single numbers"])
@pytest.mark.parametrize("shape", [(1, 1, COUNT), (3, 1, 2**30), (9, 2, 2**28)])
def test_scale_tangents(library: Any, shape: tuple[int, int, int], first: int) -> None:
    """One large sample, large strides, many samples."""
    probes, batch, size = shape
    t = sparse(first + probes * batch * size, torch.float32)[first:].view(shape)
    d = sparse(batch * size, torch.float32).view(batch, size)
    t[:, :, -TAIL:] = torch.randn(probes, batch, TAIL)
    d[:, -TAIL:] = torch.randn(batch, TAIL)
    expected = t[:, :, -TAIL:] * d[:, -TAIL:]
    torch.ops.polarity_emulated.scale_tangents_(t, d)
    last = slice(probes // 8 * 8, None)  # the probes that the last group of threads serves
    assert torch.equal(t[last, -1, -TAIL:], expected[last, -1])


def test_symmetric_eigenvalues(library: Any) -> None:
    strides = (2**31 + 8, 2**25, 2)
    a = sparse(strides[0] + 40 * strides[1], torch.float64).as_strided((2, 40, 40), strides)
    y = torch.randn(2, 40, 40, dtype=torch.float64)
    a.copy_(y + y.mT)
    with emulator.last_blocks(library, 0):
        got = torch.ops.polarity_emulated.symmetric_eigenvalues(a, 40)
    torch.testing.assert_close(got, torch.linalg.eigvalsh(y + y.mT).flip(1), rtol=1e-12, atol=1e-12)


def test_upfirdn2d(library: Any) -> None:
    """More images than one launch takes, whose indices have 32 bits."""
    x = sparse(2**29 + 3 * 256, torch.float32).view(-1, 1, 16, 16)
    x[-3:] = torch.randn(3, 1, 16, 16)
    arguments = (torch.randn(3, 4), [1, 1], [1, 1], [2, 1, 1, 1])
    got = torch.ops.polarity_emulated.upfirdn2d(x, *arguments)
    torch.testing.assert_close(got[-1:], torch.ops.polarity.upfirdn2d(x[-1:], *arguments))


def test_upfirdn2d_by_steps_beyond_32_bits(library: Any) -> None:
    x, taps = torch.randn(2, 4, 5, 6), torch.randn(3, 4)
    arguments = ([1, 1], [2**33, 2**34], [2, 0, 1, 0])
    expected = upfirdn2d_ref(x, taps, *arguments).float()
    with emulator.last_blocks(library, 0):
        for layout in (torch.contiguous_format, torch.channels_last):
            images = x.contiguous(memory_format=layout)
            got = torch.ops.polarity_emulated.upfirdn2d(images, taps, *arguments)
            torch.testing.assert_close(got, expected)


def test_gram(library: Any) -> None:
    """Strides, not sizes: an element of y lies 2^31 elements and more after the first."""
    strides = (2**31 + 8, 2**25, 2)
    y = sparse(strides[0] + 40 * strides[1], torch.float32).as_strided((2, 40, 5), strides)
    y.copy_(torch.randn(2, 40, 5))
    with emulator.last_blocks(library, 0):
        torch.testing.assert_close(torch.ops.polarity_emulated.gram(y), gram_ref(y), rtol=1e-13, atol=1e-13)
