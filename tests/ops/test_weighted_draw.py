"""weighted_draw: the rows of the definition, their law, what they do not depend on, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_values

OP = OPS["weighted_draw"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def test_the_law_of_the_first_two_rows(seed: int) -> None:
    """Against the probabilities of drawing one row after the other, over many seeds."""
    weights = np.array([5.0, 3.0, 1.0, 1.0, 0.5])
    p = weights / weights.sum()
    log_weights = torch.from_numpy(np.log(weights) + 300)
    trials = 20_000
    pairs = np.array(
        [polarity_ext.weighted_draw(log_weights, 2, seed, 256 * i).tolist() for i in range(trials)]
    )
    expected = np.outer(p, p) / (1 - p)[:, None]
    drawn = ~np.eye(5, dtype=bool)
    counts = np.bincount(5 * pairs[:, 0] + pairs[:, 1], minlength=25).reshape(5, 5)
    assert stats.chisquare(counts[drawn], trials * expected[drawn]).pvalue > 1e-6


def test_every_row_comes_as_often_as_its_weight(seed: int) -> None:
    """The first row of many draws, over places of the stream far apart."""
    log_weights = torch.tensor([0.0, -20.0, 0.0, 1.0], dtype=torch.float64)
    first = [int(polarity_ext.weighted_draw(log_weights, 1, seed, 4 * i)[0]) for i in range(20_000)]
    p = torch.softmax(log_weights, 0).numpy()
    counts = np.bincount(first, minlength=4)
    assert counts[1] == 0  # 1e-5 are to be expected
    likely = [0, 2, 3]
    assert stats.chisquare(counts[likely], counts.sum() * p[likely] / p[likely].sum()).pvalue > 1e-6


@given(seed=st.integers(0, 2**63 - 1), count=st.integers(1, 600), data=st.data())
def test_the_first_of_a_draw_are_a_draw(seed: int, count: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, count))
    m = data.draw(st.integers(0, n))
    log_weights = torch.randn(count, dtype=torch.float64)
    rows = polarity_ext.weighted_draw(log_weights, n, seed)
    assert torch.equal(rows[:m], polarity_ext.weighted_draw(log_weights, m, seed))
    assert len(set(rows.tolist())) == n


def test_a_part_of_a_bank_keeps_its_numbers(seed: int) -> None:
    """Rows without weight before and after change nothing but the row numbers."""
    log_weights = torch.randn(1000, dtype=torch.float64)
    whole = torch.full_like(log_weights, -torch.inf)
    whole[317:800] = log_weights[317:800]
    rows = polarity_ext.weighted_draw(whole, 100, seed)
    assert torch.equal(rows, 317 + polarity_ext.weighted_draw(log_weights[317:800], 100, seed, 317))


def test_threads_do_not_change_a_row(seed: int) -> None:
    log_weights = torch.randn(300_000, dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(polarity_ext.weighted_draw(log_weights, 3000, seed))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_beyond_what_multinomial_takes(seed: int) -> None:
    count = 2**24 + 1000
    log_weights = torch.zeros(count, dtype=torch.float64)
    rows = polarity_ext.weighted_draw(log_weights, 50_000, seed)
    assert len(rows.unique()) == 50_000
    assert stats.kstest(rows.numpy() / count, "uniform").pvalue > 1e-8


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("count", [300, 200_000])
def test_bad_weights_are_named(value: float, count: int, backend: Backend) -> None:
    log_weights = torch.zeros(count, dtype=torch.float64, device=backend.device)
    log_weights[[217, 290]] = value
    with pytest.raises(ValueError, match=rf"log_weights\[217\] is {value}; expected finite numbers"):
        polarity_ext.weighted_draw(log_weights, 10, 1)


@pytest.mark.parametrize("count", [300, 200_000])
def test_too_few_rows_with_weight(count: int, backend: Backend) -> None:
    log_weights = torch.full((count,), -torch.inf, dtype=torch.float64, device=backend.device)
    log_weights[[3, 100, 250]] = 1.0
    with pytest.raises(ValueError, match="only 3 rows have a weight above zero, 4 wanted; draw fewer"):
        polarity_ext.weighted_draw(log_weights, 4, 1)
    assert sorted(polarity_ext.weighted_draw(log_weights, 3, 1).tolist()) == [3, 100, 250]


def test_bad_arguments() -> None:
    weights = torch.zeros(5, dtype=torch.float64)
    draw = polarity_ext.weighted_draw
    with pytest.raises(RuntimeError, match="log_weights is Float; it must be float64"):
        draw(weights.float(), 1, 0)
    with pytest.raises(RuntimeError, match=r"log_weights must be \[N\], got \[1, 5\]"):
        draw(weights[None], 1, 0)
    with pytest.raises(RuntimeError, match=r"n must be in 0\.\.N = 5, got 6; a row is drawn once at most"):
        draw(weights, 6, 0)
    with pytest.raises(RuntimeError, match=r"n must be in 0\.\.N = 5, got -1"):
        draw(weights, -1, 0)
    with pytest.raises(RuntimeError, match="seed must be >= 0, got -1"):
        draw(weights, 1, -1)
    with pytest.raises(RuntimeError, match="offset must be >= 0, got -1"):
        draw(weights, 1, 0, -1)
