"""upfirdn2d: against the definition, pooling and interpolation; derivatives, refusals."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_jvp, check_values, check_vmap

OP = OPS["upfirdn2d"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def test_boxes_are_nearest_upsampling_and_average_pooling(device: str) -> None:
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64, device=device)
    box = torch.ones(3, dtype=torch.float64, device=device)
    up = polarity_ext.upfirdn2d(x, box, up=3, padding=(2, 0, 2, 0))
    torch.testing.assert_close(up, F.interpolate(x, scale_factor=3, mode="nearest"))
    torch.testing.assert_close(polarity_ext.upfirdn2d(x, box / 3, down=3), F.avg_pool2d(x, 3))


def test_the_filter_is_convolved(device: str) -> None:
    f = torch.randn(3, 4, dtype=torch.float64, device=device)
    impulse = torch.zeros(1, 1, 5, 6, dtype=torch.float64, device=device)
    impulse[0, 0, 2, 3] = 1
    out = polarity_ext.upfirdn2d(impulse, f, padding=(3, 3, 2, 2))
    assert torch.equal(out[0, 0, 2:5, 3:7], f)


def test_one_filter_for_both_axes_is_the_outer_product(device: str) -> None:
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, device=device)
    f = torch.randn(4, dtype=torch.float64, device=device)
    settings = {"up": (2, 3), "down": (3, 1), "padding": (1, 2, 3, 0)}
    expected = polarity_ext.upfirdn2d(x, torch.outer(f, f), **settings)
    torch.testing.assert_close(polarity_ext.upfirdn2d(x, f, **settings), expected)


@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    taps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    up=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    down=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(-1, 5)] * 4),
    last=st.booleans(),
)
def test_gradient_is_the_transpose(
    sizes: tuple[int, int],
    taps: tuple[int, int],
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    last: bool,
) -> None:
    x = torch.randn(2, 2, *sizes, dtype=torch.float64)
    x = (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_()
    room = [sizes[1 - k] * up[k] + padding[2 * k] + padding[2 * k + 1] - taps[1 - k] for k in range(2)]
    if min(room) < 0:
        return
    out = polarity_ext.upfirdn2d(x, torch.randn(taps, dtype=torch.float64), up, down, padding)
    u = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, x, u)
    torch.testing.assert_close((gradient * x).sum(), (u * out).sum())


def test_derivatives(device: str) -> None:
    f = torch.randn(3, 2, dtype=torch.float64, device=device)

    def function(x: Tensor) -> Tensor:
        return polarity_ext.upfirdn2d(x, f.to(x.dtype), up=(2, 1), down=(1, 2), padding=(1, 0, 2, 1))

    x = torch.randn(1, 2, 2, 3, dtype=torch.float64, device=device)
    tracked = x.clone().requires_grad_()
    assert gradcheck(function, tracked, check_forward_ad=True)
    assert gradgradcheck(function, tracked, check_fwd_over_rev=True, check_rev_over_rev=True)
    check_jvp(function, x)
    check_vmap(function, [(torch.randn_like(x),) for _ in range(2)])


def test_layout_is_kept() -> None:
    x, f = torch.randn(2, 3, 4, 5), torch.ones(2, 2)
    last = polarity_ext.upfirdn2d(x.contiguous(memory_format=torch.channels_last), f)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert polarity_ext.upfirdn2d(x, f).is_contiguous()


def test_a_filter_differentiated_from_outside_is_refused() -> None:
    """Inside another transform the filter looks like a constant; its derivative would be silently zero."""
    x, f = torch.randn(1, 2, 5, 5), torch.randn(2, 2)

    def through(f: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(lambda x: polarity_ext.upfirdn2d(x, f).square().sum(), (x,), (x,))[1]

    with pytest.raises(RuntimeError, match="f is being differentiated"):
        torch.func.grad(through)(f)
    with pytest.raises(RuntimeError, match="f is being differentiated"):
        torch.func.jvp(through, (f,), (f,))


def test_bad_arguments() -> None:
    x, f = torch.ones(2, 3, 4, 5), torch.ones(2, 2)
    run = polarity_ext.upfirdn2d
    for device in ("cpu", "meta"):
        with pytest.raises(
            RuntimeError, match=r"x must be \[N, C, H, W\] and f \[taps of y, taps of x\], got x \[3"
        ):
            run(x[0].to(device), f.to(device))
        with pytest.raises(RuntimeError, match="pad more"):
            run(x.to(device), torch.ones(5, 2, device=device))
    with pytest.raises(RuntimeError, match="up and down must be at least 1, got up 2, 0"):
        run(x, f, up=(2, 0))
    with pytest.raises(ValueError, match="padding has 2 entries; expected one number or 4"):
        run(x, f, padding=(1, 1))
    with pytest.raises(RuntimeError, match="x is Float and f is Double"):
        run(x, f.double())
    with pytest.raises(RuntimeError, match="f is being differentiated"):
        run(x, f.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="f cannot be batched by vmap"):
        torch.func.vmap(lambda f: run(x, f))(torch.ones(3, 2, 2))
