"""convolve_to_few: values, derivatives, what it must equal, refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["convolve_to_few"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [(4, 2, 1, 0), (3, 2, 1, 1), (5, 3, 0, 2), (3, 1, 1, 0)],
)
def test_is_the_convolution_of_torch(
    kernel: int, stride: int, padding: int, output_padding: int, device: str
) -> None:
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64, device=device)
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64, device=device)
    expected = F.conv_transpose2d(x, weight, None, stride, padding, output_padding)
    found = polarity_ext.convolve_to_few(
        x, weight, size=expected.shape[2:], stride=stride, padding=(padding, padding)
    )
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()


def test_a_convolution_without_stride(device: str) -> None:
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64, device=device)
    weight = torch.randn(3, 4, 5, 3, dtype=torch.float64, device=device)
    expected = F.conv2d(x, weight, padding=(1, 2))
    turned = weight.flip(2, 3).transpose(0, 1)
    found = polarity_ext.convolve_to_few(x, turned, size=expected.shape[2:], padding=(3, 0))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        ((3, 2), 2, (1, 0), (5, 4)),
        ((3, 3), 1, (1, 1), (3, 2)),
        ((2, 3), 2, (0, 2), (8, 1)),  # zeros below, a crop at the right
        ((1, 1), 3, (2, 0), (2, 5)),
    ],
)
def test_derivatives(
    kernel: tuple[int, int], stride: int, padding: tuple[int, int], size: tuple[int, int], device: str
) -> None:
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64, device=device)
    weight = torch.randn(2, 3, *kernel, dtype=torch.float64, device=device)

    def function(x: Tensor, weight: Tensor) -> Tensor:
        return polarity_ext.convolve_to_few(x, weight, size=size, stride=stride, padding=padding)

    check_derivatives(function, x, weight)
    check_jvp(function, x, weight)


def test_derivatives_with_a_factor(device: str) -> None:
    x = torch.randn(2, 3, 2, 3, 2, dtype=torch.float64, device=device)
    weight = torch.randn(2, 3, 3, 2, dtype=torch.float64, device=device)
    factor = torch.randn(3, 3, 5, 4, dtype=torch.float64, device=device)

    def function(x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
        return polarity_ext.convolve_to_few(x, weight, size=(5, 4), stride=2, padding=(1, 0), factor=factor)

    torch.testing.assert_close(function(x, weight, factor), function(x, weight, 1 + 0 * factor) * factor)
    check_derivatives(function, x, weight, factor)
    check_jvp(function, x, weight, factor)
    check_vmap(function, [(x, weight, factor), tuple(t + 1 for t in (x, weight, factor))])


def test_vmap(device: str) -> None:
    def function(x: Tensor, weight: Tensor) -> Tensor:
        return polarity_ext.convolve_to_few(x, weight, size=(7, 4), stride=2, padding=(1, 1))

    shapes = (2, 3, 3, 2), (3, 2, 4, 3)
    check_vmap(
        function, [tuple(torch.randn(s, dtype=torch.float64, device=device) for s in shapes) for _ in "12"]
    )


@pytest.mark.parametrize("shape", [(2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
@pytest.mark.parametrize("channels", [0, 2])
def test_sums_without_terms(shape: tuple[int, ...], channels: int, device: str) -> None:
    x, weight = torch.ones(shape, device=device), torch.ones(shape[1], channels, 4, 4, device=device)
    out = polarity_ext.convolve_to_few(x, weight, size=(9, 8), stride=2, padding=(1, 1))
    assert torch.equal(out, torch.zeros(2, channels, 9, 8, device=device))


def test_bad_arguments() -> None:
    x, weight = torch.ones(2, 3, 4, 5), torch.ones(3, 2, 4, 4)
    run = polarity_ext.convolve_to_few
    for device in ("cpu", "meta"):
        with pytest.raises(RuntimeError, match=r"got x \[2, 3, 4, 5\] and weight \[2, 2, 4, 4\]"):
            run(x.to(device), weight[:2].to(device), size=(4, 5))
    with pytest.raises(RuntimeError, match="stride must be at least 1, got 0"):
        run(x, weight, size=(4, 5), stride=0)
    with pytest.raises(RuntimeError, match=r"padding and size must be \(y, x\)"):
        run(x, weight, size=(4,))
    with pytest.raises(RuntimeError, match="must not be negative, got padding -1 and size 4"):
        run(x, weight, size=(4, 5), padding=(-1, 0))
    with pytest.raises(RuntimeError, match="x is Float and weight is Double"):
        run(x, weight.double(), size=(4, 5))
    with pytest.raises(RuntimeError, match="x is Float and factor is Double"):
        run(x, weight, size=(4, 5), factor=torch.ones(2, 2, 4, 5, dtype=torch.float64))
    for device in ("cpu", "meta"):
        for kernels in (weight, weight.clone().requires_grad_()):
            with pytest.raises(RuntimeError, match=r"factor must be .* \[2, 2, 4, 5\] is, got \[2, 4, 5\]"):
                run(x.to(device), kernels.to(device), size=(4, 5), factor=torch.ones(2, 4, 5, device=device))
