"""modulate_tangents and modulate_cotangents: against the modulation itself, derivatives, refusals."""

import pytest
import torch
from torch import Tensor

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.cases.case import channels_last
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP, PULL = OPS["modulate_tangents"], OPS["modulate_cotangents"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize("case", PULL.cases, ids=str)
def test_values_of_cotangents(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(PULL, case, table_backend, seed)


@pytest.mark.parametrize("case", OPS["modulate_tangents_"].cases, ids=str)
def test_values_in_place(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OPS["modulate_tangents_"], case, table_backend, seed)


def test_in_place(device: str) -> None:
    tx, x, s, ts = arguments(device)
    expected = polarity_ext.modulate_tangents(tx, x, s, ts)
    version = tx._version
    assert polarity_ext.modulate_tangents_(tx, x, s, ts) is tx
    assert torch.equal(tx, expected)
    assert tx._version > version


def test_in_place_refusals(device: str) -> None:
    tx, x, s, ts = arguments(device)
    run = polarity_ext.modulate_tangents_
    for bad in (channels_last(tx), tx[:1].expand_as(tx), tx.repeat(1, 2, 1, 1, 1)[:, ::2]):
        with pytest.raises(RuntimeError, match="probes follow one another"):
            run(bad, x, s, ts)
    with pytest.raises(RuntimeError, match="requires a gradient"):
        run(tx, x, s.clone().requires_grad_(), ts)
    with pytest.raises(RuntimeError, match=r"under torch\.func"):
        torch.func.vmap(lambda ts: run(tx, x, s, ts))(ts[None])
    with pytest.raises(RuntimeError, match=r"modulate_tangents_: ts must be \[L, B, C\]"):
        run(tx.to("meta"), x.to("meta"), s.to("meta"), ts[0].to("meta"))


def arguments(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shapes = ((2, 2, 3, 2, 2), (2, 3, 2, 2), (2, 3), (2, 2, 3))
    tx, x, s, ts = (torch.randn(shape, dtype=torch.float64, device=device) for shape in shapes)
    return tx, x, s, ts


def test_is_the_tangent_and_cotangent_of_the_modulation(device: str) -> None:
    tx, x, s, ts = arguments(device)

    def modulate(x: Tensor, s: Tensor) -> Tensor:
        return x * s[:, :, None, None]

    expected = torch.stack([torch.func.jvp(modulate, (x, s), pair)[1] for pair in zip(tx, ts, strict=True)])
    torch.testing.assert_close(polarity_ext.modulate_tangents(tx, x, s, ts), expected)
    pull = torch.func.vjp(modulate, x, s)[1]
    wanted = [torch.stack(parts) for parts in zip(*(pull(u) for u in tx), strict=True)]
    torch.testing.assert_close(list(polarity_ext.modulate_cotangents(tx, x, s)), wanted)


def test_derivatives(device: str) -> None:
    tx, x, s, ts = arguments(device)
    check_derivatives(polarity_ext.modulate_tangents, tx, x, s, ts)
    check_jvp(polarity_ext.modulate_tangents, tx, x, s, ts)
    check_derivatives(polarity_ext.modulate_cotangents, tx, x, s)
    check_jvp(polarity_ext.modulate_cotangents, tx, x, s)
    check_jvp(lambda x: polarity_ext.modulate_cotangents(tx.to(x.dtype), x, s.to(x.dtype))[1], x)
    check_jvp(lambda s: polarity_ext.modulate_cotangents(tx.to(s.dtype), x.to(s.dtype), s)[0], s)


def test_vmap(device: str) -> None:
    def sliced() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tx, x, s, ts = arguments(device)
        return tx[:, :, :2, 0, 0], x[:, :2, 0, 0], s[:, :2], ts[:, :, :2]

    rows = [sliced() for _ in range(2)]
    tx, x, s, ts = rows[0]
    check_vmap(lambda tx, ts: polarity_ext.modulate_tangents(tx, x, s, ts), [(r[0], r[3]) for r in rows])
    check_vmap(lambda tx, x: polarity_ext.modulate_tangents(tx, x, s, ts), [r[:2] for r in rows])
    check_vmap(lambda s, ts: polarity_ext.modulate_tangents(tx, x, s, ts), [r[2:] for r in rows])
    check_vmap(lambda u, x: polarity_ext.modulate_cotangents(u, x, s), [r[:2] for r in rows])
    check_vmap(lambda s: polarity_ext.modulate_cotangents(tx, x, s), [(r[2],) for r in rows])


def test_layout_is_kept() -> None:
    tx, x = channels_last(torch.randn(3, 2, 4, 5, 6)), channels_last(torch.randn(2, 4, 5, 6))
    s, ts = torch.randn(2, 4), torch.randn(3, 2, 4)
    assert polarity_ext.modulate_tangents(tx, x, s, ts).stride() == tx.stride()
    assert polarity_ext.modulate_cotangents(tx, x, s)[0].stride() == tx.stride()
    assert polarity_ext.modulate_tangents(tx, x.contiguous(), s, ts).is_contiguous()


def test_bad_arguments() -> None:
    tx, x, s, ts = torch.ones(2, 3, 4, 5), torch.ones(3, 4, 5), torch.ones(3, 4), torch.ones(2, 3, 4)
    for bad in ((tx[0], x, s), (tx, x[0], s), (tx, x, s[0])):
        with pytest.raises(
            RuntimeError, match=r"tx must be \[L, B, C, \*\], x \[B, C, \*\] and s \[B, C\], got"
        ):
            polarity_ext.modulate_tangents(*bad, ts)
        with pytest.raises(
            RuntimeError, match=r"u must be \[L, B, C, \*\], x \[B, C, \*\] and s \[B, C\], got"
        ):
            polarity_ext.modulate_cotangents(*(y.to("meta") for y in bad))
    with pytest.raises(RuntimeError, match=r"ts must be \[L, B, C\] of tx \[2, 3, 4, 5\], got \[3, 4\]"):
        polarity_ext.modulate_tangents(tx, x, s, ts[0])
    with pytest.raises(RuntimeError, match="tx is Float and ts is Double"):
        polarity_ext.modulate_tangents(tx, x, s, ts.double())
    with pytest.raises(RuntimeError, match="u is Long; it must be float32 or float64"):
        polarity_ext.modulate_cotangents(tx.long(), x.long(), s.long())
