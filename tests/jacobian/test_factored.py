"""`Factored` against the same operations on the tensor it stands for."""

import pytest
import torch
from polarity_sampling.jacobian.factored import Factored
from torch import Tensor


@pytest.fixture
def parts(seed):
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    return draw(1, 3, 4, 2, 2), draw(5, 1, 4, 1, 1), draw(5, 3, 1, 1, 1)


@pytest.fixture
def weight(parts):
    constant, style, demodulation = parts
    return Factored.of(constant, (style, demodulation))


def close(found: Factored | Tensor | None, expected: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found.tensor if isinstance(found, Factored) else found, expected)


def test_products(parts, weight):
    constant, style, demodulation = parts
    whole = constant * style * demodulation
    close(weight, whole)
    assert weight.shape == list(whole.shape)
    close(weight.times(2.5), 2.5 * whole)
    close(weight.times(constant, constant=True), whole * constant)
    close(weight.times(style), whole * style)
    close(weight.times(weight), whole * whole)
    close(Factored.of(constant[0], (style[0],)).times(demodulation), constant * style[0] * demodulation)
    close(weight.power(3), whole**3)
    assert weight.power(0.5) is None


def test_factors_of_one_shape_are_multiplied_first(parts, weight):
    product = weight.times(parts[1]).times(parts[2])
    assert len(product.factors) == 2


@pytest.mark.parametrize("dims", [(2, 3, 4), (2,), (-1, -2, -3), (1, 2, 3, 4)])
@pytest.mark.parametrize("keepdim", [True, False])
def test_sums(parts, weight, dims, keepdim):
    close(weight.summed(dims, keepdim), weight.tensor.sum(dims, keepdim=keepdim))
    one = Factored.of(parts[0], parts[1:2])
    close(one.summed(dims, keepdim), one.tensor.sum(dims, keepdim=keepdim))


def test_sums_that_are_no_matrix_product(parts):
    constant, style, _ = parts
    assert Factored.of(constant, (style,)).summed((3, 4), True) is None  # nothing varies there
    both = Factored.of(constant, (style * torch.ones(1, 3, 1, 1, 1, dtype=style.dtype),))
    assert both.summed((2, 3, 4), True) is None  # outputs have a style each


def test_shapes(weight):
    whole = weight.tensor
    close(weight.reshaped([15, 4, 2, 2]), whole.reshape(15, 4, 2, 2))
    close(weight.reshaped([1, 15, 1, 4, 4, 1]), whole.reshape(1, 15, 1, 4, 4, 1))
    close(weight.reshaped([15, 16]).reshaped([5, 3, 4, 2, 2]), whole)
    close(
        weight.permuted([0, 2, 1, 3, 4]).reshaped([20, 3, 2, 2]), whole.transpose(1, 2).reshape(20, 3, 2, 2)
    )
    close(
        weight.reshaped([15, 4, 2, 2]).permuted([1, 0, 3, 2]), whole.reshape(15, 4, 2, 2).permute(1, 0, 3, 2)
    )
    close(weight.flipped([3, 4]), whole.flip([3, 4]))
    assert weight.to(torch.float32).tensor.dtype == torch.float32


def test_no_form(parts, weight):
    merged = weight.reshaped([15, 4, 2, 2])
    assert weight.reshaped([10, 6, 2, 2]) is None
    assert merged.times(parts[1]) is None
    assert merged.summed([1], True) is None
    assert merged.flipped([2]) is None
    assert weight.times(merged) is None
