"""rectify and mask_tangents: values, what they must equal, derivatives, refusals."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.cases.case import strided
from tests.ops.checks import check_jvp, check_stray_writes, check_values, check_vmap


@pytest.mark.parametrize("case", OPS["rectify"].cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OPS["rectify"], case, table_backend, seed)


@pytest.mark.parametrize("case", OPS["mask_tangents"].cases, ids=str)
def test_values_of_mask_tangents(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OPS["mask_tangents"], case, table_backend, seed)


@pytest.mark.parametrize("case", OPS["mask_tangents_"].cases, ids=str)
def test_values_in_place(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OPS["mask_tangents_"], case, table_backend, seed)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_is_the_activation_and_its_derivative(slope: float, device: str) -> None:
    x = torch.randn(3, 5, 7, device=device)
    y, bits = polarity_ext.rectify(x, slope)
    kind = ("leaky_relu", slope) if slope else ("relu",)
    value, derivative = polarity_ext.activation(x, *kind)
    assert torch.equal(y, value)
    t = torch.randn(4, 3, 5, 7, device=device)
    expected = polarity_ext.scale_tangents(t, derivative)
    assert torch.equal(polarity_ext.mask_tangents(t, bits, slope), expected)
    assert torch.equal(polarity_ext.mask_tangents_(t, bits, slope), expected)


def test_nan_comes_through_the_value() -> None:
    y, bits = polarity_ext.rectify(torch.tensor([[float("nan"), 1.0]]))
    assert bool(y.isnan()[0, 0])
    assert bits.tolist() == [[2]]


def test_derivatives(device: str) -> None:
    x = torch.tensor([[0.3, -0.4, 1.2], [-2.0, 0.7, -0.1]], dtype=torch.float64, device=device)
    bits = polarity_ext.rectify(x)[1]

    def value(x: Tensor) -> Tensor:
        return polarity_ext.rectify(x, 0.2)[0]

    def masked(t: Tensor) -> Tensor:
        return polarity_ext.mask_tangents(t, bits, 0.2, 3.0)

    t = torch.randn(2, 2, 3, dtype=torch.float64, device=device)
    for function, argument in ((value, x), (masked, t)):
        tracked = argument.clone().requires_grad_()
        assert gradcheck(function, tracked, check_forward_ad=True)
        assert gradgradcheck(function, tracked, check_fwd_over_rev=True, check_rev_over_rev=True)
        check_jvp(function, argument)
    check_vmap(value, [(torch.randn_like(x),) for _ in range(3)])
    check_vmap(masked, [(torch.randn_like(t),) for _ in range(3)])


def test_vmap_over_bits() -> None:
    t = torch.randn(2, 3, 9)
    bits = torch.randint(0, 256, (4, 3, 2), dtype=torch.uint8)
    expected = torch.stack([polarity_ext.mask_tangents(t, mask) for mask in bits])
    assert torch.equal(torch.func.vmap(lambda mask: polarity_ext.mask_tangents(t, mask))(bits), expected)


def test_writes_only_its_output(device: str) -> None:
    bits = torch.full((3, 6), 255, dtype=torch.uint8, device=device)
    check_stray_writes(
        lambda out: polarity_ext.mask_tangents_(out.view(2, 3, 41), bits, 0.0, 2.0),
        246,
        torch.ones(1, device=device),
    )


def test_bad_arguments() -> None:
    t, bits = torch.ones(2, 3, 9), torch.zeros(3, 2, dtype=torch.uint8)
    for function in (polarity_ext.mask_tangents, polarity_ext.mask_tangents_):
        for device in ("cpu", "meta"):
            with pytest.raises(RuntimeError, match=r"got t \[2, 3, 9\] and bits \[3, 1\]"):
                function(t.to(device), bits[:, :1].to(device))
        with pytest.raises(RuntimeError, match="t is Long; it must be float32 or float64"):
            function(t.long(), bits)
        with pytest.raises(RuntimeError, match="bits is Int; it must be uint8"):
            function(t, bits.int())
    with pytest.raises(RuntimeError, match=r"x must be \[B, \*\]"):
        polarity_ext.rectify(torch.ones(()))


def test_in_place_refusals() -> None:
    t, bits = torch.ones(2, 3, 9), torch.zeros(3, 2, dtype=torch.uint8)
    run = polarity_ext.mask_tangents_
    for bad in (strided(t), t[:1].expand(2, 3, 9), torch.ones(60).as_strided((2, 3, 9), (13, 9, 1))):
        with pytest.raises(RuntimeError, match="use mask_tangents, which copies"):
            run(bad, bits)
    with pytest.raises(RuntimeError, match="requires a gradient"):
        run(t.clone().requires_grad_() * 1, bits)
    with pytest.raises(RuntimeError, match=r"torch\.func or forward-mode"):
        torch.func.vmap(lambda t: run(t, bits))(t.expand(4, 2, 3, 9))
    version = t._version
    assert run(t, bits) is t
    assert t._version == version + 1
