"""activation: accuracy of value and derivative everywhere, both outputs' derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F

import polarity_ext
from polarity_ext.ops.activation import second_derivative
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.cases.activation import KINDS, default_alpha, error
from tests.ops.cases.case import channels_last
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap
from tests.ops.references import activation_mp

OP = OPS["activation"]
ALL_KINDS = pytest.mark.parametrize("kind", KINDS)
SMOOTH = pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("relu", "leaky_relu")])


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@ALL_KINDS
def test_a_few_units_in_the_last_place_everywhere(
    kind: str, dtype: torch.dtype, backend: Backend, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    far = 200 * torch.rand(200, generator=g, dtype=torch.float64) - 100  # saturated, down to underflow
    near = 4 * torch.randn(200, generator=g, dtype=torch.float64)
    small = 10 ** (-30 * torch.rand(60, generator=g, dtype=torch.float64))
    alpha = default_alpha(kind)
    for values in (far, near, small, -small, torch.zeros(1, dtype=torch.float64)):
        x = values.to(dtype)
        got = torch.ops.polarity.activation(x.to(backend.device), KINDS.index(kind), alpha)
        assert error(got, activation_mp(x, kind, alpha), x, KINDS.index(kind), alpha) <= 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_tanh_has_a_derivative(dtype: torch.dtype, backend: Backend) -> None:
    x = torch.tensor([20.0, -20.0, 40.0], dtype=dtype, device=backend.device)
    derivative = polarity_ext.activation(x, "tanh")[1].tolist()
    exact = [1.69934170211663e-17, 1.69934170211663e-17, 7.21940555138166e-35]
    assert derivative == pytest.approx(exact, rel=1e-6, abs=0)


@ALL_KINDS
def test_numbers_that_are_not_finite(kind: str, backend: Backend) -> None:
    """NaN gives NaN twice; infinities give the limits."""
    x = torch.tensor([math.nan, math.inf, -math.inf], device=backend.device)
    y, derivative = (v.tolist() for v in polarity_ext.activation(x, kind))
    assert math.isnan(y[0])
    assert math.isnan(derivative[0])
    right = {"tanh": (1, 0), "sigmoid": (1, 0)}.get(kind, (math.inf, 1))
    left = {"tanh": (-1, 0), "elu": (-1, 0), "leaky_relu": (-math.inf, 0.01)}.get(kind, (0, 0))
    assert (y[1], derivative[1]) == right
    assert (y[2], derivative[2]) == pytest.approx(left)


def test_kinks_take_the_left_derivative_as_torch_does() -> None:
    for kind in ("relu", "leaky_relu", "elu"):
        x = torch.tensor([0.0, -0.0], requires_grad=True)
        getattr(F, kind)(x).sum().backward()
        assert x.grad is not None
        assert torch.equal(polarity_ext.activation(x.detach(), kind)[1], x.grad)


@ALL_KINDS
def test_agrees_with_torch(kind: str) -> None:
    x = (3 * torch.randn(200, dtype=torch.float64)).requires_grad_()
    wanted = getattr(F, kind)(x)
    (slope,) = torch.autograd.grad(wanted.sum(), x)
    y, derivative = polarity_ext.activation(x.detach(), kind)
    torch.testing.assert_close(y, wanted.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(derivative, slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("kind", "alpha"), [("leaky_relu", 0.3), ("softplus", 2.5), ("elu", 0.5)])
def test_alpha(kind: str, alpha: float) -> None:
    x = 3 * torch.randn(100, dtype=torch.float64)
    torch.testing.assert_close(polarity_ext.activation(x, kind, alpha)[0], getattr(F, kind)(x, alpha))


def away_from_kinks(shape: tuple[int, ...], device: str) -> torch.Tensor:
    x = torch.randn(shape, dtype=torch.float64, device=device)
    return x + 0.1 * torch.sign(x)


@ALL_KINDS
def test_derivatives(kind: str, device: str) -> None:
    x = away_from_kinks((2, 3), device)
    check_derivatives(lambda x: polarity_ext.activation(x, kind)[0], x)
    if kind not in (
        "relu",
        "leaky_relu",
    ):  # their second output is constant between kinks
        check_derivatives(lambda x: polarity_ext.activation(x, kind), x)


@SMOOTH
def test_jvp_of_both_outputs(kind: str, device: str) -> None:
    check_jvp(lambda x: polarity_ext.activation(x, kind), away_from_kinks((40,), device))


@pytest.mark.parametrize("kind", ["relu", "leaky_relu"])
def test_jvp_of_piecewise_linear_kinds(kind: str, device: str) -> None:
    x = away_from_kinks((40,), device)
    check_jvp(lambda x: polarity_ext.activation(x, kind)[0], x)
    tangent = torch.func.jvp(lambda x: polarity_ext.activation(x, kind), (x,), (x,))[1][1]
    assert bool((tangent == 0).all())


@SMOOTH
def test_second_derivative_does_not_cancel(kind: str) -> None:
    """To 1e-13 of the larger term in the tails, where differences of f' have no digit left."""
    x = torch.tensor([-30.0, -12.0, -3.0, 3.0, 12.0, 30.0], dtype=torch.float64)
    h = 1e-6
    alpha = default_alpha(kind)
    up, down = activation_mp(x + h, kind, alpha)[1], activation_mp(x - h, kind, alpha)[1]
    got = second_derivative(x, kind, alpha)
    # f' is rounded to 1 part in 2^53: the quotient is good to eps f' / h, plus h^2 f''''.
    allowed = 2e-16 * up.abs() / h + 2e-11 * got.abs() * x**2
    assert bool(((got - (up - down) / (2 * h)).abs() <= allowed).all())
    if kind in ("tanh", "sigmoid", "silu", "softplus"):
        assert bool((got != 0).all())


def test_vmap(device: str) -> None:
    for kind in ("tanh", "gelu"):
        rows = [(torch.randn(2, 3, dtype=torch.float64, device=device),) for _ in range(3)]
        check_vmap(lambda x, kind=kind: polarity_ext.activation(x, kind), rows)


def test_layout_is_kept() -> None:
    x = channels_last(torch.randn(2, 3, 4, 5))
    for output in polarity_ext.activation(x, "silu"):
        assert output.stride() == x.stride()
    for output in polarity_ext.activation(x[:, :, ::2], "silu"):
        assert output.is_contiguous()


def test_bad_arguments() -> None:
    x = torch.ones(3)
    with pytest.raises(ValueError, match="kind is 'swish'; expected one of relu, leaky_relu"):
        polarity_ext.activation(x, "swish")
    with pytest.raises(ValueError, match=r"tanh takes no alpha, got 0\.5"):
        polarity_ext.activation(x, "tanh", 0.5)
    with pytest.raises(ValueError, match=r"alpha is 0\.0; expected a finite number, > 0 for softplus"):
        polarity_ext.activation(x, "softplus", 0.0)
    with pytest.raises(ValueError, match="alpha is nan; expected a finite number"):
        polarity_ext.activation(x, "elu", math.nan)
    with pytest.raises(RuntimeError, match="x is Int; it must be float32 or float64"):
        polarity_ext.activation(x.int(), "relu")
    with pytest.raises(RuntimeError, match=r"kind must be in 0\.\.7, got 8"):
        torch.ops.polarity.activation(x, 8, 0.0)
