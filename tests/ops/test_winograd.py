"""winograd: values, derivatives, what it must equal, refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_jvp, check_values, check_vmap

OP = OPS["winograd"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "tile"),
    [
        (3, 1, 1, 4),
        (3, 2, 0, 4),
        (4, 2, 1, 4),
        (5, 2, 2, 4),
        (6, 2, 0, 4),
        (3, 1, 1, 6),
        (5, 2, 2, 6),
        (4, 2, 1, 5),
        (3, 2, 0, 5),
        (2, 1, 0, 5),
        (4, 1, 2, 6),
        (8, 2, 3, 6),
    ],
)
def test_is_the_convolution_of_torch(kernel: int, stride: int, padding: int, tile: int, device: str) -> None:
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64, device=device)
    weight = torch.randn(4, 4, kernel, kernel, dtype=torch.float64, device=device)
    for transposed, convolve in ((False, F.conv2d), (True, F.conv_transpose2d)):
        expected = convolve(x, weight, stride=stride, padding=padding)
        transformed = polarity_ext.winograd_weight(weight, stride, transposed, tile=tile)
        found = polarity_ext.winograd(
            x, transformed, kernel,
            size=expected.shape[2:], stride=stride, padding=(padding, padding), transposed=transposed,
        )  # fmt: skip
        torch.testing.assert_close(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "tile"),
    [(3, 1, 4), (3, 2, 4), (4, 2, 4), (5, 2, 4), (3, 1, 6), (4, 2, 5), (4, 1, 6)],
)
def test_derivatives(kernel: int, stride: int, tile: int, transposed: bool, device: str) -> None:
    plain = torch.randn(2, 2, kernel, kernel, dtype=torch.float64, device=device)
    weight = polarity_ext.winograd_weight(plain, stride, transposed, tile=tile)
    size = [stride * 3, stride * 2] if transposed else [3 // stride, 2 // stride]

    def function(x: Tensor) -> Tensor:
        return polarity_ext.winograd(
            x, weight.to(x.dtype), kernel, size=size, stride=stride, padding=(1, 1), transposed=transposed
        )

    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, device=device)
    tracked = x.clone().requires_grad_()
    assert gradcheck(function, tracked, check_forward_ad=True)
    assert gradgradcheck(function, tracked, check_fwd_over_rev=True, check_rev_over_rev=True)
    check_jvp(function, x)
    check_vmap(function, [(torch.randn_like(x),) for _ in range(2)])


def test_derivatives_of_masked_results(device: str) -> None:
    weight = polarity_ext.winograd_weight(torch.randn(3, 2, 3, 3, dtype=torch.float64, device=device))
    bits = torch.randint(0, 256, (2, 5), dtype=torch.uint8, device=device)

    def function(x: Tensor) -> Tensor:
        return polarity_ext.winograd(
            x, weight.to(x.dtype), 3, size=(4, 3), padding=(1, 1), bits=bits, low=0.2, high=1.5
        )

    x = torch.randn(2, 2, 2, 4, 3, dtype=torch.float64, device=device)
    with torch.no_grad():
        fused = function(x)
    tracked = x.clone().requires_grad_()
    torch.testing.assert_close(function(tracked), fused, rtol=1e-14, atol=1e-14)
    assert gradcheck(function, tracked, check_forward_ad=True)
    check_jvp(function, x)
    check_vmap(function, [(torch.randn_like(x),) for _ in range(2)])


def test_a_crop_larger_than_the_image(device: str) -> None:
    x = torch.randn(1, 2, 16, 2, dtype=torch.float64, device=device).requires_grad_()
    plain = torch.randn(3, 2, 3, 3, dtype=torch.float64, device=device)
    weight = polarity_ext.winograd_weight(plain)
    wide = F.conv2d(x, plain, padding=(0, 4))
    found = polarity_ext.winograd(x, weight, 3, size=(11, 1), padding=(0, 4))
    torch.testing.assert_close(found, wide[:, :, :11, :1])
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), x),
        torch.autograd.grad(wide[:, :, :11, :1].square().sum(), x),
    )


def test_no_channels(device: str) -> None:
    out = polarity_ext.winograd(
        torch.ones(2, 0, 5, 5, device=device), torch.ones(16, 1, 0, 3, device=device), 3, size=(3, 3)
    )
    assert torch.equal(out, torch.zeros_like(out))


def test_a_weight_differentiated_from_outside_is_refused(device: str) -> None:
    """Inside another transform the weight looks like a constant; its derivative would be silently zero."""
    x, w = torch.randn(1, 2, 5, 5, device=device), torch.randn(2, 2, 3, 3, device=device)

    def function(w: Tensor, x: Tensor) -> Tensor:
        weight = polarity_ext.winograd_weight(w)
        return polarity_ext.winograd(x, weight, 3, size=(5, 5), padding=(1, 1)).square().sum()

    inner = (
        lambda w: torch.func.jvp(lambda x: function(w, x), (x,), (x,))[1],
        lambda w: torch.func.grad_and_value(lambda x: function(w, x))(x)[1],
        lambda w: torch.func.grad(lambda x: function(w, x))(x).sum(),
    )
    for of_weight in inner:
        with pytest.raises(RuntimeError, match="weight is being differentiated"):
            torch.func.grad(of_weight)(w)


def test_bad_arguments() -> None:
    x, plain = torch.ones(2, 3, 4, 5), torch.ones(6, 3, 3, 3)
    weight = polarity_ext.winograd_weight(plain)
    run = polarity_ext.winograd
    for device in ("cpu", "meta"):
        bits = torch.zeros(2, 14, dtype=torch.uint8, device=device)  # of 15 bytes
        with pytest.raises(RuntimeError, match=r"winograd: bits must be uint8"):
            run(x.to(device), weight.to(device), 3, size=(4, 5), padding=(1, 1), bits=bits)
        with pytest.raises(RuntimeError, match=r"weight that of winograd_weight, got x \[2, 3, 4, 5\]"):
            run(x.to(device), weight[:, :, 1:].to(device), 3, size=(4, 5))
    with pytest.raises(RuntimeError, match=r"a kernel of 5 at stride 1 has 5 taps .* tiles of 4"):
        run(x, weight, 5, size=(4, 5))
    with pytest.raises(RuntimeError, match="padding and size must be"):
        run(x, weight, 3, size=(4,))
    with pytest.raises(RuntimeError, match="stride must be at least 1, got 0"):
        run(x, weight, 3, size=(4, 5), stride=0)
    with pytest.raises(RuntimeError, match="x is Float and weight is Double"):
        run(x, weight.double(), 3, size=(4, 5))
    with pytest.raises(RuntimeError, match="weight is being differentiated"):
        run(x, weight.clone().requires_grad_(), 3, size=(4, 5))
    with pytest.raises(RuntimeError, match="weight cannot be batched by vmap"):
        torch.func.vmap(lambda w: run(x, w, 3, size=(4, 5)))(weight.expand(2, -1, -1, -1, -1))
    for bad in (plain[..., :2], plain[0], torch.ones(6, 3, 5, 5)):
        with pytest.raises(ValueError, match="ceil\\(k / stride\\) 2 or 3"):
            polarity_ext.winograd_weight(bad)
    for tile, kernel, stride in ((6, 4, 2), (5, 3, 1), (7, 3, 1)):
        with pytest.raises(ValueError, match="2 for tile 5, 3 or 4 for tile 6"):
            polarity_ext.winograd_weight(torch.ones(6, 3, kernel, kernel), stride, tile=tile)
    with pytest.raises(RuntimeError, match="2 taps to a phase, and weight is for tiles of 6"):
        run(x, torch.ones(36, 1, 3, 6), 2, size=(4, 5))
    with pytest.raises(RuntimeError, match="weight that of winograd_weight"):  # not of whole panels
        run(x, torch.ones(16, 2, 3, 6), 3, size=(4, 5))


def test_a_weight_in_panels_is_that_weight() -> None:
    """However many output channels there are, and wherever the weight was transformed."""
    x, plain = torch.randn(2, 3, 8, 8), torch.randn(64, 3, 3, 3)
    panels = polarity_ext.winograd_weight(plain)
    assert panels.shape == (16, 2, 3, 32)
    whole = panels.transpose(1, 2).flatten(2)[:, None]
    settings = {"size": (8, 8), "padding": (1, 1)}
    assert torch.equal(
        polarity_ext.winograd(x, panels, 3, **settings), polarity_ext.winograd(x, whole, 3, **settings)
    )


def test_the_other_way_is_the_transpose() -> None:
    x, u = torch.randn(2, 3, 6, 6, dtype=torch.float64), torch.randn(2, 5, 3, 3, dtype=torch.float64)
    plain = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    there = polarity_ext.winograd_weight(plain, 2, tile=5)
    back = polarity_ext.winograd_weight(plain, 2, transposed=True, tile=5)
    assert torch.equal(back, there.transpose(2, 3))
    settings = {"stride": 2, "padding": (1, 1)}
    y = polarity_ext.winograd(x, there, 4, size=(3, 3), **settings)
    v = polarity_ext.winograd(u, back, 4, size=(6, 6), transposed=True, **settings)
    torch.testing.assert_close((u * y).sum(), (v * x).sum())
