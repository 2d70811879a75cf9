"""mlp_gram: values beside a Jacobian multiplied out, derivatives, refusals."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import polarity_ext
from tests.ops import references as ref
from tests.ops.backends import CPU, CUDA, Backend
from tests.ops.checks import check_vmap

Shape = tuple[int, int, tuple[int, ...], int]
SHAPES: list[Shape] = [  # probes, batch, widths, active units of the last hidden layer
    (1, 1, (3, 4, 5), 2),
    (9, 3, (9, 20, 17), 9),
    (33, 4, (12, 70, 50, 90), 31),
    (64, 2, (64, 90, 90, 601), 33),
    (130, 2, (20, 30, 80, 130), 65),
    (5, 3, (6, 8, 40, 9), 40),
    (5, 3, (6, 8, 40, 9), 36),  # so many that the rest is multiplied, too
    (5, 3, (6, 8, 40, 9), 0),
    (0, 2, (3, 4, 5), 2),
    (4, 0, (3, 4, 5), 2),
    (4, 2, (3, 4, 0), 2),
]


def perceptron(
    shape: Shape, dtype: torch.dtype, is_shared: bool, g: torch.Generator
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Probes, weights and factors; about half of the other hidden units are active."""
    probes, batch, widths, active = shape
    v = torch.randn(*((probes,) if is_shared else (probes, batch)), widths[0], generator=g).to(dtype)
    weights, factors = [], []
    for i in range(1, len(widths)):
        weights.append(torch.randn(widths[i], widths[i - 1], generator=g).to(dtype))
        factor = torch.randn(batch, widths[i], generator=g).to(dtype)
        draw = torch.rand(batch, widths[i], generator=g)
        if i == len(widths) - 2:
            factor[draw.argsort(1).argsort(1) >= active] = 0.0
        elif i < len(widths) - 1:
            factor[draw < 0.5] = 0.0
        factors.append(factor)
    return v, weights, factors


def multiplied_out(v: Tensor, weights: list[Tensor], factors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """In float64, from the tangents; |A|^2 |X|^2 over units whose factor is not zero."""
    v, weights, factors = v.double(), [w.double() for w in weights], [f.double() for f in factors]
    x = v if v.dim() == 3 else v[:, None].expand(-1, factors[0].shape[0], -1)
    for weight, factor in zip(weights[:-1], factors[:-1], strict=True):
        x = (x @ weight.mT) * factor
    out, _ = ref.layer_gram_ref(x, weights[-1], factors[-1])
    layer = torch.einsum(
        "bo,oi,bi->b", factors[-1].square(), weights[-1].square(), (factors[-2] != 0).double()
    )
    return out, layer * x.square().sum((0, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("is_shared", [True, False], ids=["shared", "of each sample"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape: Shape, is_shared: bool, dtype: torch.dtype, backend: Backend, seed: int) -> None:
    v, weights, factors = perceptron(shape, dtype, is_shared, torch.Generator().manual_seed(seed))
    got = polarity_ext.mlp_gram(*map(backend.place, (v, weights, factors)))
    assert torch.equal(got[0], got[0].mT)
    # In proportion to the sums of absolute values, in which every product rounds as often as it has terms.
    bounds = multiplied_out(v.abs(), [w.abs() for w in weights], [f.abs() for f in factors])
    unit = (8 + 2 * sum(shape[2])) * torch.finfo(dtype).eps
    for value, wanted, bound in zip(got, multiplied_out(v, weights, factors), bounds, strict=True):
        assert value.dtype == torch.float64
        assert bool(((value.cpu() - wanted).abs() <= unit * bound).all())


def test_is_the_composition(device: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = perceptron((40, 5, (16, 50, 60, 200), 22), torch.float64, True, generator)
    v, weights, factors = (CUDA if device == "cuda" else CPU).place(list(inputs))
    hidden = polarity_ext.mlp_tangents(v, weights[:-1], factors[:-1])
    for value, wanted in zip(
        polarity_ext.mlp_gram(v, weights, factors),
        polarity_ext.layer_gram(hidden, weights[-1], factors[-1]),
        strict=True,
    ):
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12 * float(wanted.abs().max()))


def test_threads_do_not_change_a_bit(seed: int) -> None:
    inputs = perceptron(SHAPES[4], torch.float32, True, torch.Generator().manual_seed(seed))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(polarity_ext.mlp_gram(*inputs))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_derivatives(device: str, seed: int) -> None:
    shape = (2, 3, (3, 5, 6, 4), 4)
    inputs = perceptron(shape, torch.float64, False, torch.Generator().manual_seed(seed))
    v, weights, factors = (CUDA if device == "cuda" else CPU).place(list(inputs))

    def of_v(v: Tensor) -> tuple[Tensor, Tensor]:
        return polarity_ext.mlp_gram(v, [w.to(v.dtype) for w in weights], [f.to(v.dtype) for f in factors])

    tracked_v = v.clone().requires_grad_()
    assert gradcheck(of_v, tracked_v, check_forward_ad=True)
    assert gradgradcheck(of_v, tracked_v, check_fwd_over_rev=True, check_rev_over_rev=True)
    check_vmap(of_v, [(v,), (v + 1,)])
    tracked = [weights[0].clone().requires_grad_(), *weights[1:]]
    with pytest.raises(RuntimeError, match="a weight or factor is being differentiated"):
        polarity_ext.mlp_gram(v, tracked, factors)


def test_bad_arguments() -> None:
    v, weights, factors = (
        torch.ones(2, 3),
        [torch.ones(4, 3), torch.ones(5, 4)],
        [torch.ones(6, 4), torch.ones(6, 5)],
    )
    with pytest.raises(RuntimeError, match="it takes two layers at least"):
        polarity_ext.mlp_gram(v, weights[:1], factors[:1])
    with pytest.raises(RuntimeError, match="every weight needs the factor behind it"):
        polarity_ext.mlp_gram(v, weights, factors[:1])
    for bad in (torch.ones(5, 3), torch.ones(4, 4), torch.ones(4)):
        with pytest.raises(RuntimeError, match="do not fit each other or the factor before"):
            polarity_ext.mlp_gram(v, [weights[0], bad], factors)
    with pytest.raises(RuntimeError, match=r"mlp_gram: v must be \[L, 3\] or \[L, 6, 3\]"):
        polarity_ext.mlp_gram(v[:, :2], weights, factors)
    with pytest.raises(RuntimeError, match="v is Float and the last weight is Double"):
        polarity_ext.mlp_gram(v, [weights[0], weights[1].double()], factors)
