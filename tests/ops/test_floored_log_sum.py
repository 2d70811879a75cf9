"""floored_log_sum: values, what is at the floor, batches, derivatives."""

import pytest
import torch

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["floored_log_sum"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def test_a_row_gives_the_same_bits_in_any_batch(backend: Backend, seed: int) -> None:
    case = next(c for c in OP.cases if c.name == "B=300")
    sigma, floor, eta, delta, top_k = (
        x.to(backend.device) if isinstance(x, torch.Tensor) else x for x in case.inputs(seed)
    )
    together = polarity_ext.floored_log_sum(sigma, floor, eta, delta, top_k)
    apart = [
        polarity_ext.floored_log_sum(*(t[i : i + 1] for t in (sigma, floor, eta, delta)), top_k)
        for i in range(len(sigma))
    ]
    for whole, parts in zip(together, zip(*apart, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))


def test_not_a_number_stays_in_its_row(backend: Backend) -> None:
    sigma = torch.tensor([[2.0, 1.0], [torch.nan, 1.0]], dtype=torch.float64, device=backend.device)
    zeros = torch.zeros(2, dtype=torch.float64, device=backend.device)
    value, error, rank = polarity_ext.floored_log_sum(sigma, zeros, zeros, torch.zeros_like(sigma))
    assert value.isnan().tolist() == error.isnan().tolist() == [False, True]
    assert rank.tolist() == [2, 1]


def inputs(device: str) -> tuple[torch.Tensor, ...]:
    """Two of three rows reach below the floor."""
    sigma = 2.0 - torch.arange(12.0, dtype=torch.float64, device=device).view(3, 4) / 8.0
    floor = torch.tensor([1.7, 0.1, 0.8], dtype=torch.float64, device=device)
    return sigma, floor, 0.1 * floor, torch.full_like(sigma, 1e-3)


def test_derivatives(device: str) -> None:
    sigma, floor, eta, delta = inputs(device)
    check_derivatives(lambda s, f: polarity_ext.floored_log_sum(s, f, eta, delta, 3)[0], sigma, floor)


def test_jvp(device: str) -> None:
    sigma, floor, eta, delta = inputs(device)

    def value(sigma: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
        return polarity_ext.floored_log_sum(sigma.double(), floor.double(), eta, delta, 3)[0]

    check_jvp(value, sigma, floor)
    check_jvp(lambda sigma: value(sigma, floor), sigma)
    check_jvp(lambda floor: value(sigma, floor), floor)


def test_vmap(device: str) -> None:
    given = inputs(device)
    rows = [tuple(scale * t for t in given) for scale in (1.0, 2.0, 3.0)]
    check_vmap(lambda *tensors: polarity_ext.floored_log_sum(*tensors)[0], rows)


def test_bad_arguments() -> None:
    sigma, floor, eta, delta = inputs("cpu")
    with pytest.raises(RuntimeError, match="sigma is Float; it must be float64"):
        polarity_ext.floored_log_sum(sigma.float(), floor, eta, delta)
    with pytest.raises(RuntimeError, match=r"sigma must be \[B, n\], got \[4\]"):
        polarity_ext.floored_log_sum(sigma[0], floor, eta, delta)
    with pytest.raises(RuntimeError, match=r"floor and eta must be \[B\] = \[3\], got \[2\] and \[3\]"):
        polarity_ext.floored_log_sum(sigma, floor[:2], eta, delta)
    with pytest.raises(RuntimeError, match=r"delta must be \[B, n\] as sigma is, .* got \[3\]"):
        polarity_ext.floored_log_sum(sigma, floor, eta, floor)
    with pytest.raises(RuntimeError, match=r"top_k must be in 0\.\.n = 4, got 5"):
        polarity_ext.floored_log_sum(sigma, floor, eta, delta, 5)
    with pytest.raises(RuntimeError, match=r"sigma must be \[B, n\], got \[4\]"):
        polarity_ext.floored_log_sum(sigma[0].to("meta"), floor, eta, delta)
