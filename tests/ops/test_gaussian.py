"""gaussian: the bits of the stream, its accuracy, its statistics."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import polarity_ext
from tests.ops import philox_ref
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_stray_writes, check_values

OP = OPS["gaussian"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known answers that come with the paper's library, Random123
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_reference_is_philox(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    got = philox_ref.philox_4x32_10(np.array([counter], dtype=np.uint32), key)
    assert tuple(int(w) for w in got[0]) == words


def test_fma_of_the_reference_rounds_once() -> None:
    # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term is half a unit, and decides with the addend.
    a = np.array([1 + 2.0**-12], dtype=np.float32)
    assert philox_ref.fma(a, a, np.float32(2.0**-60))[0] == np.float32(1 + 2.0**-11 + 2.0**-23)
    assert philox_ref.fma(a, a, np.float32(-(2.0**-60)))[0] == np.float32(1 + 2.0**-11)


def test_box_muller_is_accurate(backend: Backend, seed: int) -> None:
    n = 1 << 18
    got = polarity_ext.gaussian(seed, 1, (n,), device=backend.device).cpu().numpy()
    odd = (np.arange(n) + 1) % 2 == 1
    exact = philox_ref.box_muller_exact(*philox_ref.gaussian_words(seed, 1, n), odd)
    ulps = np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert ulps.max() <= 5
    assert np.quantile(ulps, 0.99) <= 2


@given(
    seed=st.integers(0, 2**63 - 1),
    start=st.integers(0, 2**62),
    count=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 300), max_size=4),
)
def test_any_split_of_the_stream_gives_the_same_numbers(
    seed: int, start: int, count: int, cuts: list[int]
) -> None:
    whole = polarity_ext.gaussian(seed, start, (count,))
    edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
    parts = [polarity_ext.gaussian(seed, start + a, (b - a,)) for a, b in itertools.pairwise(edges)]
    assert torch.equal(whole, torch.cat([torch.empty(0), *parts]))


def test_threads_do_not_change_the_numbers() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = polarity_ext.gaussian(5, 3, (200_003,))
        torch.set_num_threads(3)
        assert torch.equal(one, polarity_ext.gaussian(5, 3, (200_003,)))
    finally:
        torch.set_num_threads(before)


def test_writes_only_its_output(device: str) -> None:
    like = torch.empty(0, device=device)
    for size in (0, 1, 3, 4, 63, 64, 131):
        check_stray_writes(lambda out: torch.ops.polarity.gaussian_(out, 3, 2), size, like)


def test_moments_and_distribution(seed: int) -> None:
    # Six standard errors: one false alarm in 5e8 runs.
    n = 1_000_000
    x = polarity_ext.gaussian(seed, 0, (n,)).double().numpy()
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - mean) < 6 * np.sqrt(variance / n), f"moment {power}"
    assert stats.kstest(x, "norm").pvalue > 1e-8
    assert 4 < np.abs(x).max() < 6.8
    tail = (np.abs(x) > 3).mean()
    expected = 2 * special.ndtr(-3)
    assert abs(tail - expected) < 6 * np.sqrt(expected / n)


def test_numbers_are_independent(seed: int) -> None:
    n = 400_000
    limit = 6 / np.sqrt(n)
    x = polarity_ext.gaussian(seed, 0, (n + 8,)).double().numpy()
    for lag in range(1, 9):  # partners of a pair, pairs of a counter, neighbouring counters
        a, b = x[:n], x[lag : lag + n]
        assert abs((a * b).mean()) < limit, f"lag {lag}"
        assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 2 * limit, f"squares at lag {lag}"
        assert abs(((a**2 - 1) * b).mean()) < 1.5 * limit, f"square and number at lag {lag}"
    # Radius and angle: the angle of every pair is uniform.
    turn = np.arctan2(x[1:n:2], x[0:n:2]) / (2 * np.pi) + 0.5
    assert stats.kstest(turn, "uniform").pvalue > 1e-8


def test_streams_are_independent(seed: int) -> None:
    n = 400_000
    x = polarity_ext.gaussian(seed, 0, (n,)).double().numpy()
    others = {
        "next seed": polarity_ext.gaussian(seed + 1, 0, (n,)),
        "seed + 2^32": polarity_ext.gaussian(seed + 2**32, 0, (n,)),
        "2^32 counters on": polarity_ext.gaussian(seed, 2**34, (n,)),
        "uniform, float32": torch.special.ndtri(polarity_ext.uniform(seed, 0, (n,)).double()),
        "uniform, float64": torch.special.ndtri(polarity_ext.uniform(seed, 0, (n,), dtype=torch.float64)),
    }
    for name, other in others.items():
        y = other.double().numpy()
        assert abs((x * y).mean()) < 6 / np.sqrt(n), name
        assert abs(((x**2 - 1) * (y**2 - 1)).mean()) < 12 / np.sqrt(n), name


def test_shape_dtype_and_device(device: str) -> None:
    x = polarity_ext.gaussian(1, 0, (2, 3, 4), device=device)
    assert (x.shape, x.dtype, x.device.type, x.is_contiguous()) == ((2, 3, 4), torch.float32, device, True)
    assert polarity_ext.gaussian(1, 0, []).shape == ()
    with torch.device("meta"):
        assert polarity_ext.gaussian(1, 0, (5,)).is_meta


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 0), "seed must be >= 0, got -1"), ((0, -5), "offset must be >= 0, got -5")],
)
def test_bad_arguments(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        polarity_ext.gaussian(*arguments, (3,))


def test_bad_outputs() -> None:
    with pytest.raises(RuntimeError, match="out must be float32"):
        torch.ops.polarity.gaussian_(torch.empty(3, dtype=torch.float64), 0, 0)
    with pytest.raises(RuntimeError, match="out must be contiguous"):
        torch.ops.polarity.gaussian_(torch.empty(3, 4).T, 0, 0)
