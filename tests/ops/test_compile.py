"""torch.compile of the public ops: one graph without breaks, and the same values."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import polarity_ext

CASES: dict[str, Callable[[], tuple[Callable[..., Any], tuple[Tensor, ...]]]] = {}


def case(make: Callable[[], tuple[Callable[..., Any], tuple[Tensor, ...]]]) -> None:
    CASES[make.__name__] = make


def tangents() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(4, 8)
    return torch.randn(3, 4, 8), x, polarity_ext.rectify(x)[1]


@case
def activation():
    return lambda x: polarity_ext.activation(x, "tanh"), (torch.randn(4, 8),)


@case
def rectify():
    return lambda x: polarity_ext.rectify(x, 0.2), (torch.randn(4, 8),)


@case
def scale_tangents():
    return polarity_ext.scale_tangents, tangents()[:2]


@case
def scale_tangents_in_place():
    return lambda t, d: polarity_ext.scale_tangents_(t.clone(), d), tangents()[:2]


@case
def mask_tangents():
    t, _, bits = tangents()
    return polarity_ext.mask_tangents, (t, bits)


@case
def mask_tangents_in_place():
    t, _, bits = tangents()
    return lambda t, bits: polarity_ext.mask_tangents_(t.clone(), bits), (t, bits)


@case
def softmax_tangents():
    t, x, _ = tangents()
    return polarity_ext.softmax_tangents, (t, x.softmax(-1))


@case
def modulate_tangents_in_place():
    images = torch.randn(3, 2, 5, 4, 4), torch.randn(2, 5, 4, 4), torch.randn(2, 5), torch.randn(3, 2, 5)
    return lambda tx, *rest: polarity_ext.modulate_tangents_(tx.clone(), *rest), images


@case
def gram():
    return polarity_ext.gram, (torch.randn(3, 20, 5),)


@case
def gaussian_product():
    return lambda y: polarity_ext.gaussian_product(y, 7, 1, 0), (torch.randn(3, 20, 5),)


@case
def symmetric_eigenvalues():
    a = torch.randn(3, 6, 6)
    return polarity_ext.symmetric_eigenvalues, (a @ a.mT,)


@case
def jacobi_singular_values():
    return polarity_ext.jacobi_singular_values, (torch.randn(3, 6, 4),)


@case
def upfirdn2d():
    taps = torch.ones(4, 4)
    return lambda x: polarity_ext.upfirdn2d(x, taps, up=2, padding=(2, 1, 2, 1)), (torch.randn(2, 5, 6, 6),)


@case
def convolve_to_few():
    def run(x: Tensor, weight: Tensor) -> Tensor:
        return polarity_ext.convolve_to_few(x, weight, size=(11, 11), stride=2, padding=(1, 1))

    return run, (torch.randn(3, 2, 5, 6, 6), torch.randn(5, 3, 3, 3))


@case
def convolve_to_few_scaled():
    def run(x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
        settings = {"size": (11, 11), "stride": 2, "padding": (1, 1)}
        return polarity_ext.convolve_to_few(x, weight, **settings, factor=factor)

    return run, (torch.randn(3, 2, 5, 6, 6), torch.randn(5, 3, 3, 3), torch.randn(2, 3, 11, 11))


@case
def winograd():
    weight = polarity_ext.winograd_weight(torch.randn(8, 5, 3, 3))
    settings = {"size": (6, 6), "padding": (1, 1)}
    return lambda x: polarity_ext.winograd(x, weight, 3, **settings), (torch.randn(2, 5, 6, 6),)


@case
def winograd_masked():
    weight = polarity_ext.winograd_weight(torch.randn(8, 5, 3, 3))
    bits = torch.randint(0, 256, (2, 36), dtype=torch.uint8)
    settings = {"size": (6, 6), "padding": (1, 1), "bits": bits, "low": 0.2}
    return lambda x: polarity_ext.winograd(x, weight, 3, **settings), (torch.randn(3, 2, 5, 6, 6),)


@pytest.mark.parametrize("name", CASES)
def test_one_graph_gives_the_same(name: str) -> None:
    function, inputs = CASES[name]()
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), function(*inputs))


def test_a_perceptron_goes_between_graphs() -> None:
    """Its forward takes any number of arguments, which torch.compile cannot trace."""
    weights, factors = [torch.randn(8, 5), torch.randn(7, 8)], [torch.rand(3, 8), torch.rand(3, 7)]

    def function(v: Tensor) -> Tensor:
        return polarity_ext.mlp_tangents(2 * v, weights, factors).sin()

    v = torch.randn(2, 3, 5, requires_grad=True)
    torch._dynamo.reset()
    found, expected = torch.compile(function, backend="aot_eager")(v), function(v)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(out.sum(), v)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients)
