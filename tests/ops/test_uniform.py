"""uniform: the bits of both streams, the open interval, the distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_stray_writes, check_values

OP = OPS["uniform"]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


@given(
    seed=st.integers(0, 2**63 - 1),
    start=st.integers(0, 2**62),
    count=st.integers(0, 200),
    cut=st.integers(0, 200),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_split_of_the_stream_gives_the_same_numbers(
    seed: int, start: int, count: int, cut: int, dtype: torch.dtype
) -> None:
    cut = min(cut, count)
    whole = polarity_ext.uniform(seed, start, (count,), dtype=dtype)
    assert torch.equal(whole[:cut], polarity_ext.uniform(seed, start, (cut,), dtype=dtype))
    assert torch.equal(whole[cut:], polarity_ext.uniform(seed, start + cut, (count - cut,), dtype=dtype))


@DTYPES
def test_writes_only_its_output(dtype: torch.dtype, device: str) -> None:
    like = torch.empty(0, dtype=dtype, device=device)
    for size in (0, 1, 2, 31, 32, 64, 131):
        check_stray_writes(lambda out: torch.ops.polarity.uniform_(out, 3, 1), size, like)


@DTYPES
def test_distribution(dtype: torch.dtype, seed: int) -> None:
    n = 1_000_000
    u = polarity_ext.uniform(seed, 0, (n,), dtype=dtype).double().numpy()
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-8
    centred = (u - 0.5) * np.sqrt(12)
    for lag in range(1, 6):
        assert abs((centred[:-lag] * centred[lag:]).mean()) < 6 / np.sqrt(n), f"lag {lag}"


@DTYPES
def test_every_bit_is_random(dtype: torch.dtype, seed: int) -> None:
    bits = 23 if dtype == torch.float32 else 52
    n = 100_000
    u = polarity_ext.uniform(seed, 0, (n,), dtype=dtype).double().numpy()
    k = (u * 2.0**bits - 0.5).astype(np.int64)  # the whole number behind each, exactly
    for bit in range(bits):
        ones = ((k >> bit) & 1).mean()
        assert abs(ones - 0.5) < 6 * 0.5 / np.sqrt(n), f"bit {bit}"


def test_the_two_precisions_are_different_streams(seed: int) -> None:
    n = 100_000
    a = polarity_ext.uniform(seed, 0, (n,)).double() - 0.5
    b = polarity_ext.uniform(seed, 0, (n,), dtype=torch.float64) - 0.5
    assert abs(float((a * b).mean()) * 12) < 6 / np.sqrt(n)


def test_bad_arguments() -> None:
    with pytest.raises(RuntimeError, match="seed must be >= 0, got -1"):
        polarity_ext.uniform(-1, 0, (3,))
    with pytest.raises(RuntimeError, match="offset must be >= 0, got -2"):
        polarity_ext.uniform(0, -2, (3,))
    with pytest.raises(RuntimeError, match="out is Half; it must be float32 or float64"):
        polarity_ext.uniform(0, 0, (3,), dtype=torch.float16)
    with pytest.raises(RuntimeError, match="out must be contiguous"):
        torch.ops.polarity.uniform_(torch.empty(3, 4).T, 0, 0)
