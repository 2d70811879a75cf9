"""scale_tangents and scale_tangents_: the rounded product in every layout, derivatives, refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.cases.case import channels_last, strided
from tests.ops.checks import check_derivatives, check_jvp, check_stray_writes, check_values, check_vmap

OP, IN_PLACE = OPS["scale_tangents"], OPS["scale_tangents_"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize("case", IN_PLACE.cases, ids=str)
def test_values_in_place(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(IN_PLACE, case, table_backend, seed)


@given(
    sizes=st.lists(st.integers(1, 3), min_size=2, max_size=5),
    orders=st.tuples(st.randoms(use_true_random=False), st.randoms(use_true_random=False)),
)
def test_any_order_of_dimensions(sizes: list[int], orders: tuple[st.randoms, st.randoms]) -> None:
    def shuffled(x: torch.Tensor, order: list[int]) -> torch.Tensor:
        return x.permute(order).contiguous().permute([order.index(i) for i in range(len(order))])

    t_order, d_order = list(range(len(sizes))), list(range(len(sizes) - 1))
    orders[0].shuffle(t_order)
    orders[1].shuffle(d_order)
    t = shuffled(torch.randn(sizes), t_order)
    d = shuffled(torch.randn(sizes[1:]), d_order)
    expected = t * d
    assert torch.equal(polarity_ext.scale_tangents(t, d), expected)
    run = t[0, 0].numel()  # samples of t are dense when no smaller stride than theirs lies outside
    if all(s < run for s, n in zip(t.stride()[2:], t.shape[2:], strict=True) if n > 1) and all(
        s >= run for s, n in zip(t.stride()[:2], t.shape[:2], strict=True) if n > 1
    ):
        assert torch.equal(polarity_ext.scale_tangents_(t, d), expected)


def test_layout_is_kept() -> None:
    t, d = channels_last(torch.randn(3, 2, 4, 5, 6)), channels_last(torch.randn(2, 4, 5, 6))
    assert polarity_ext.scale_tangents(t, d).stride() == t.stride()
    assert polarity_ext.scale_tangents(t, d.contiguous()).is_contiguous()


def test_what_is_not_finite_stays_where_it_is(backend: Backend) -> None:
    t = torch.tensor([[[1.0, float("nan"), float("inf"), 0.0, -2.0]]], device=backend.device)
    d = torch.tensor([[0.0, 0.0, 2.0, float("inf"), float("nan")]], device=backend.device)
    got = polarity_ext.scale_tangents(t, d)[0, 0].tolist()
    assert got[0] == 0
    assert got[2] == float("inf")
    assert all(x != x for x in (got[1], got[3], got[4]))


def test_writes_only_its_output(device: str) -> None:
    d = torch.full((3, 41), 2.0, device=device)

    def scale(out: torch.Tensor) -> None:
        polarity_ext.scale_tangents_(out.view(2, 3, 41), d)

    check_stray_writes(scale, 246, d)


def test_leaves_gaps_between_samples_alone(device: str) -> None:
    whole = torch.ones(4, 3, 50, device=device)
    polarity_ext.scale_tangents_(whole[:, ::2, 7:40], torch.full((2, 33), 3.0, device=device))
    expected = torch.ones(4, 3, 50, device=device)
    expected[:, ::2, 7:40] = 3
    assert torch.equal(whole, expected)


def test_a_factor_inside_the_tangents_is_copied(device: str) -> None:
    t = torch.randn(4, 3, 50, device=device)
    expected = t * t[0]
    assert torch.equal(polarity_ext.scale_tangents_(t, t[0]), expected)


def test_returns_and_marks_the_tensor_it_changed() -> None:
    t, d = torch.randn(2, 3, 4), torch.randn(3, 4)
    version = t._version
    assert polarity_ext.scale_tangents_(t, d) is t
    assert t._version == version + 1
    with torch.inference_mode():
        t, d = torch.ones(2, 3, 4), torch.full((3, 4), 2.0)
        assert bool((polarity_ext.scale_tangents_(t, d) == 2).all())


def test_derivatives(device: str) -> None:
    t = torch.randn(3, 2, 4, dtype=torch.float64, device=device)
    check_derivatives(polarity_ext.scale_tangents, t, torch.randn(2, 4, dtype=torch.float64, device=device))


def test_jvp(device: str) -> None:
    t = torch.randn(3, 2, 4, dtype=torch.float64, device=device)
    d = torch.randn(2, 4, dtype=torch.float64, device=device)
    check_jvp(polarity_ext.scale_tangents, t, d)
    check_jvp(lambda t: polarity_ext.scale_tangents(t, d.to(t.dtype)), t)
    check_jvp(lambda d: polarity_ext.scale_tangents(t.to(d.dtype), d), d)


def test_vmap(device: str) -> None:
    def rows() -> tuple[torch.Tensor, torch.Tensor]:
        t = torch.randn(3, 2, 4, dtype=torch.float64, device=device)
        return t, torch.randn(2, 4, dtype=torch.float64, device=device)

    check_vmap(polarity_ext.scale_tangents, [rows() for _ in range(3)])


def test_in_place_refuses_what_it_cannot_differentiate() -> None:
    t, d = torch.randn(2, 3, 4), torch.randn(3, 4)
    with pytest.raises(RuntimeError, match=r"use scale_tangents, or call it under torch\.no_grad"):
        polarity_ext.scale_tangents_(t.clone().requires_grad_() * 1, d)
    with pytest.raises(RuntimeError, match="requires a gradient"):
        polarity_ext.scale_tangents_(t, d.clone().requires_grad_())
    with torch.no_grad():
        polarity_ext.scale_tangents_(t.clone().requires_grad_(), d)
    with pytest.raises(RuntimeError, match=r"torch\.func or forward-mode"):
        torch.func.jvp(lambda d: polarity_ext.scale_tangents_(t.clone(), d), (d,), (d,))
    with pytest.raises(RuntimeError, match=r"torch\.func or forward-mode"):
        torch.func.vmap(lambda t: polarity_ext.scale_tangents_(t, d))(torch.randn(5, 2, 3, 4))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(RuntimeError, match=r"torch\.func or forward"):
        polarity_ext.scale_tangents_(torch.autograd.forward_ad.make_dual(t, t), d)


def test_in_place_refuses_overlapping_and_strided_samples() -> None:
    d = torch.randn(3, 4)
    for t in (
        torch.randn(3, 4).expand(5, 3, 4),
        torch.randn(5, 1, 4).expand(5, 3, 4),
        strided(torch.randn(5, 3, 4)),
        torch.randn(200).as_strided((5, 3, 4), (6, 4, 1)),
    ):
        with pytest.raises(RuntimeError, match="use scale_tangents, which copies"):
            polarity_ext.scale_tangents_(t, d)


@pytest.mark.parametrize("function", [polarity_ext.scale_tangents, polarity_ext.scale_tangents_])
def test_bad_arguments(function: type[polarity_ext.scale_tangents]) -> None:
    t = torch.ones(2, 3, 4)
    with pytest.raises(RuntimeError, match=r"got t \[2, 3, 4\] and d \[4\]"):
        function(t, torch.ones(4))
    with pytest.raises(RuntimeError, match=r"got t \[2, 3, 4\] and d \[3, 1\]"):
        function(t, torch.ones(3, 1))
    with pytest.raises(RuntimeError, match="t is Float and d is Double"):
        function(t, torch.ones(3, 4, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="t is Long; it must be float32 or float64"):
        function(t.long(), torch.ones(3, 4).long())
    with pytest.raises(RuntimeError, match=r"got t \[2, 3, 4\] and d \[4\]"):
        function(t.to("meta"), torch.ones(4, device="meta"))
