"""normalize_tangents: against torch's own normalisations, derivatives, layouts, refusals."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.cases.case import channels_last
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["normalize_tangents"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


NORMALISATIONS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...], bool, float]] = {
    "layer": (lambda x: F.layer_norm(x, x.shape[1:]), (1, 2, 3), True, 1e-5),
    "instance": (F.instance_norm, (2, 3), True, 1e-5),
    "pixel": (lambda x: x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt(), (1,), False, 1e-8),
    "RMS": (lambda x: F.rms_norm(x, x.shape[3:], eps=1e-6), (3,), False, 1e-6),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_is_the_tangent_of_the_normalisation(name: str, device: str) -> None:
    function, group, center, eps = NORMALISATIONS[name]
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, device=device)
    t = torch.randn(6, *x.shape, dtype=torch.float64, device=device)
    expected = torch.stack([torch.func.jvp(function, (x,), (v,))[1] for v in t])
    mean = x.mean(group, keepdim=True) if center else 0.0
    r = ((x - mean).square().mean(group, keepdim=True) + eps).rsqrt()
    got = polarity_ext.normalize_tangents(t, (x - mean) * r, r, center)
    torch.testing.assert_close(got, expected)


def arguments(device: str) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.randn(2, 2, 3, 4, dtype=torch.float64, device=device)
    xhat = torch.randn(2, 3, 4, dtype=torch.float64, device=device)
    return t, xhat, torch.randn(2, 3, 1, dtype=torch.float64, device=device)


@pytest.mark.parametrize("center", [True, False])
def test_derivatives(center: bool, device: str) -> None:
    def function(t: Tensor, xhat: Tensor, r: Tensor) -> Tensor:
        return polarity_ext.normalize_tangents(t, xhat, r, center)

    t, xhat, r = arguments(device)
    check_derivatives(function, t, xhat, r)
    check_jvp(function, t, xhat, r)
    check_jvp(lambda t: function(t, xhat.to(t.dtype), r.to(t.dtype)), t)
    check_jvp(lambda xhat: function(t.to(xhat.dtype), xhat, r.to(xhat.dtype)), xhat)


def test_vmap(device: str) -> None:
    rows = [(t[:, 0], xhat[0], r[0]) for t, xhat, r in (arguments(device) for _ in range(2))]
    check_vmap(polarity_ext.normalize_tangents, rows)


def test_layout_is_kept() -> None:
    t, xhat = channels_last(torch.randn(3, 2, 4, 5, 6)), channels_last(torch.randn(2, 4, 5, 6))
    r = torch.randn(2, 4, 1, 1)
    assert polarity_ext.normalize_tangents(t, xhat, r).stride() == t.stride()
    assert polarity_ext.normalize_tangents(t, xhat.contiguous(), r).is_contiguous()


def test_a_group_in_many_pieces_is_copied_or_refused() -> None:
    r = torch.randn(2, 1, 3, 1, 2)
    xhat = torch.randn(2, 4, 3, 5, 2)
    t = torch.randn(6, *xhat.shape)
    with pytest.raises(RuntimeError, match="more than two separate runs of dimensions"):
        polarity_ext.normalize_tangents(t, xhat, r)
    with pytest.raises(RuntimeError, match="more than two separate runs of dimensions"):
        polarity_ext.normalize_tangents(t.to("meta"), xhat.to("meta"), r.to("meta"))
    got = polarity_ext.normalize_tangents(t.movedim(-1, 1), xhat.movedim(-1, 0), r.movedim(-1, 0))
    torch.testing.assert_close(got.movedim(1, -1), OP.composed(t, xhat, r, True))


def test_bad_arguments() -> None:
    t, xhat, r = torch.ones(2, 3, 4), torch.ones(3, 4), torch.ones(3, 1)
    for bad in ((t, xhat, torch.ones(3)), (t, torch.ones(4), r), (t, xhat, torch.ones(2, 1))):
        with pytest.raises(RuntimeError, match=r"t must be \[L, \*\], xhat \[\*\] and r"):
            polarity_ext.normalize_tangents(*bad)
        with pytest.raises(RuntimeError, match=r"t must be \[L, \*\], xhat \[\*\] and r"):
            polarity_ext.normalize_tangents(*(x.to("meta") for x in bad))
    with pytest.raises(RuntimeError, match="t is Float and r is Double"):
        polarity_ext.normalize_tangents(t, xhat, r.double())
    with pytest.raises(RuntimeError, match="t is Half; it must be float32 or float64"):
        polarity_ext.normalize_tangents(t.half(), xhat.half(), r.half())
