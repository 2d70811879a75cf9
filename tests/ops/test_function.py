"""Calls of ops where nobody can ask for a derivative, and where somebody does after all."""

import threading

import pytest
import torch
from torch import Tensor

import polarity_ext
from polarity_ext.ops.function import differentiable, no_derivatives


def test_the_promise_holds_within_the_block_and_the_thread() -> None:
    tracked = torch.ones(2, 3, requires_grad=True)
    with torch.no_grad(), no_derivatives():
        assert not differentiable(tracked)
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(differentiable(tracked)))
        thread.start()
        thread.join()
        assert found == [True]
        with no_derivatives(False), torch.enable_grad():
            assert differentiable(tracked)
        assert not differentiable(tracked)
    assert differentiable(tracked)


def test_a_promise_that_does_not_hold_changes_nothing() -> None:
    x = torch.randn(2, 5, dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        with no_derivatives():
            return polarity_ext.activation(x, "tanh")[0]

    tangent = torch.func.jvp(function, (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(tangent, 1 - x.tanh() ** 2)
    torch.testing.assert_close(torch.func.grad(lambda x: function(x).sum())(x), tangent)
    tracked = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(function(tracked).sum(), tracked)[0], tangent)


def test_a_block_left_by_an_error_is_left() -> None:
    tracked = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(KeyError), torch.no_grad(), no_derivatives():
        raise KeyError
    assert differentiable(tracked)
