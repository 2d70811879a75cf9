import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polarity_sampling import laws
from polarity_sampling.laws import Ball, Law, Normal, Sphere, TruncatedNormal, Uniform
from scipy import stats

import polarity_ext

LAWS = [
    Normal(),
    Normal(mean=-0.3, std=2.5),
    Uniform(),
    Uniform(0.1, 0.7),
    TruncatedNormal(2.0),
    TruncatedNormal(0.3),
    Sphere(),
    Sphere(3.0),
    Ball(1.7),
    Ball(2.0, center=0.4),
]
each_law = pytest.mark.parametrize("law", LAWS, ids=str)
seeds = st.integers(0, 2**63 - 1)
scales = st.floats(1e-3, 1e3)
any_law = st.one_of(
    st.builds(Normal, st.floats(-1e3, 1e3), scales),
    st.builds(lambda low, width: Uniform(low, low + width), st.floats(-1e3, 1e3), scales),
    st.builds(TruncatedNormal, scales),
    st.builds(Sphere, st.none() | scales),
    st.builds(Ball, scales, st.floats(-1e3, 1e3)),
)


def numbered(start: int, stop: int) -> torch.Tensor:
    return torch.arange(start, stop)


# --- rows -------------------------------------------------------------------------------------------


@given(
    law=any_law,
    seed=seeds,
    dim=st.integers(1, 40),
    rows=st.lists(st.integers(0, 300) | st.integers(0, 2**50), min_size=1, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_a_row_depends_on_seed_and_row_alone(law: Law, seed: int, dim: int, rows: list[int]) -> None:
    together = law.draw(seed, torch.tensor(rows), dim)
    alone = torch.cat([law.draw(seed, torch.tensor([row]), dim) for row in rows])
    assert together.dtype == torch.float32
    assert torch.equal(together, alone)


@each_law
def test_runs_and_scattered_rows_longer_than_a_block_agree(law: Law, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "_BLOCK", 64)
    monkeypatch.setattr(laws, "_GAP", 24)
    run = law.draw(5, numbered(100, 1100), 3)
    monkeypatch.undo()
    assert torch.equal(run, law.draw(5, numbered(100, 1100), 3))

    monkeypatch.setattr(laws, "_BLOCK", 64)
    monkeypatch.setattr(laws, "_GAP", 24)
    rows = torch.randint(0, 1000, (700,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(law.draw(5, rows + 100, 3), run[rows])
    increasing = rows.unique()
    assert torch.equal(law.draw(5, increasing + 100, 3), run[increasing])


def test_scattered_rows_do_not_cost_a_call_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(*args: object, **kwargs: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return polarity_ext_gaussian(*args, **kwargs)

    polarity_ext_gaussian = polarity_ext.gaussian
    monkeypatch.setattr(polarity_ext, "gaussian", counted)
    rows = torch.randint(0, 1_000_000, (100_000,), generator=torch.Generator().manual_seed(1))
    Normal().draw(0, rows, 16)
    assert calls < 100


def test_neighbouring_rows_and_seeds_differ() -> None:
    for law in LAWS:
        first = law.draw(1, numbered(0, 4), 8)
        assert torch.unique(first, dim=0).shape[0] == 4
        assert not torch.isclose(first, law.draw(2, numbered(0, 4), 8)).any()


@pytest.mark.parametrize(
    ("law", "first", "second"),
    [
        (
            Normal(-0.3, 2.5),
            [-0.592293381690979, 2.194643974304199, 0.08109378814697266],
            [0.1948118805885315, -2.0795609951019287, 3.047341823577881],
        ),
        (
            Uniform(0.1, 0.7),
            [0.27853459119796753, 0.4788920283317566, 0.36931800842285156],
            [0.30744045972824097, 0.5278517603874207, 0.5441873669624329],
        ),
        (
            Sphere(),
            [-0.19928193092346191, 1.7008167505264282, 0.2598249614238739],
            [0.22417180240154266, -0.8062202334403992, 1.516494631767273],
        ),
        (
            Ball(2.0, 0.4),
            [0.2611352503299713, 1.5851726531982422, 0.5810526609420776],
            [-1.4280304908752441, 0.6503350734710693, 0.7970231771469116],
        ),
    ],
    ids=str,
)
def test_draws_are_pinned(law: Law, first: list[float], second: list[float]) -> None:
    """Stored banks regenerate their latents: these numbers may never change, on any platform."""
    assert law.draw(2024, torch.tensor([0, 123_456_789]), 3).tolist() == [first, second]


def test_draw_ignores_the_default_device() -> None:
    with torch.device("meta"):
        z = Ball(1.0).draw(0, torch.arange(3, device="cpu") * 50_000, 4)
    assert z.device.type == "cpu"
    assert torch.equal(z, Ball(1.0).draw(0, numbered(0, 3) * 50_000, 4))


def test_no_rows() -> None:
    assert Normal().draw(0, torch.empty(0, dtype=torch.int64), 7).shape == (0, 7)


@pytest.mark.parametrize(
    ("seed", "rows", "dim", "error", "words"),
    [
        (-1, [0], 2, ValueError, "seed=-1"),
        (2**63, [0], 2, ValueError, "seed="),
        (0, [0], 0, ValueError, "dim=0"),
        (0, [3, -1], 2, ValueError, r"\[-1, 3\]"),
        (0, [2**62], 2, ValueError, "rows span"),
        (0, [0.5], 2, TypeError, "float32"),
        (0, [[0]], 2, TypeError, r"\(1, 1\)"),
    ],
)
def test_bad_rows(seed: int, rows: list[object], dim: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Normal().draw(seed, torch.tensor(rows), dim)


# --- distributions ----------------------------------------------------------------------------------


def p_value(sample: torch.Tensor, cdf: object) -> float:
    return float(stats.kstest(sample.double().numpy(), cdf).pvalue)


@pytest.mark.parametrize(
    ("law", "marginal"),
    [
        (Normal(-0.3, 2.5), stats.norm(-0.3, 2.5)),
        (Uniform(0.1, 0.7), stats.uniform(0.1, 0.6)),
        (TruncatedNormal(2.0), stats.truncnorm(-2.0, 2.0)),
        (TruncatedNormal(0.3), stats.truncnorm(-0.3, 0.3)),
        (TruncatedNormal(12.0), stats.norm()),
    ],
    ids=lambda value: str(value) if isinstance(value, Law) else "",
)
def test_coordinates_are_independent_and_have_the_marginal_law(law: Law, marginal: object) -> None:
    z = law.draw(11, numbered(0, 20_000), 3)
    assert p_value(z.flatten(), marginal.cdf) > 1e-4  # type: ignore[attr-defined]
    correlation = torch.corrcoef(z.T) - torch.eye(3)
    assert correlation.abs().max() < 5 / math.sqrt(len(z))


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
def test_sphere_is_uniform(dim: int) -> None:
    z = Sphere(2.0).draw(3, numbered(0, 20_000), dim).double()
    torch.testing.assert_close(z.norm(dim=1), torch.full((20_000,), 2.0, dtype=torch.float64))
    if dim == 1:
        assert abs(z.sign().mean()) < 5 / math.sqrt(len(z))
    else:  # a coordinate x of the unit sphere has (x + 1) / 2 ~ Beta((K - 1) / 2, (K - 1) / 2)
        for coordinate in z.T[:3]:
            assert (
                p_value((coordinate / 2.0 + 1.0) / 2.0, stats.beta((dim - 1) / 2, (dim - 1) / 2).cdf) > 1e-4
            )
    assert torch.allclose(
        Sphere().draw(3, numbered(0, 9), dim), Sphere(math.sqrt(dim)).draw(3, numbered(0, 9), dim)
    )


@pytest.mark.parametrize("dim", [1, 2, 5, 64])
def test_ball_is_uniform(dim: int) -> None:
    law = Ball(3.0, center=-1.0)
    z = law.draw(4, numbered(0, 20_000), dim).double() + 1.0
    radius = z.norm(dim=1)
    assert p_value((radius / 3.0) ** dim, stats.uniform.cdf) > 1e-4
    if dim > 1:
        direction = z[:, 0] / radius
        assert p_value((direction + 1.0) / 2.0, stats.beta((dim - 1) / 2, (dim - 1) / 2).cdf) > 1e-4
        assert abs(float(torch.corrcoef(torch.stack([direction, radius]))[0, 1])) < 5 / math.sqrt(len(z))


def test_all_zero_numbers_still_give_a_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polarity_ext, "gaussian", lambda seed, offset, shape, **_: torch.zeros(shape))
    assert Sphere(2.0).draw(0, numbered(0, 2), 2).tolist() == [[2.0, 0.0], [2.0, 0.0]]


# --- densities --------------------------------------------------------------------------------------


@each_law
def test_density_integrates_to_one_in_one_dimension(law: Law) -> None:
    if isinstance(law, Sphere):  # two points
        radius = law.radius or 1.0
        points = torch.tensor([[-radius], [radius]])
        assert law.log_density(points).exp().sum().item() == pytest.approx(1.0, rel=1e-14)
        return
    edges = np.unique([-20.0, -2.0, -1.6, -1.7, -1.0, -0.3, 0.1, 0.3, 0.7, 1.0, 1.7, 2.0, 2.4, 20.0])
    total = 0.0
    for low, high in pairwise(edges):
        nodes, weights = np.polynomial.legendre.leggauss(60)
        z = torch.from_numpy((low + high) / 2 + (high - low) / 2 * nodes)[:, None]
        total += float((law.log_density(z).exp() * torch.from_numpy(weights)).sum()) * (high - low) / 2
    assert total == pytest.approx(1.0, abs=1e-9)


@given(dim=st.integers(1, 200), seed=seeds)
@settings(max_examples=20, deadline=None)
def test_product_densities_equal_scipy(dim: int, seed: int) -> None:
    for law, marginal in [
        (Normal(0.5, 2.0), stats.norm(0.5, 2.0)),
        (Uniform(-1.0, 2.0), stats.uniform(-1.0, 3.0)),
        (TruncatedNormal(1.5), stats.truncnorm(-1.5, 1.5)),
    ]:
        z = law.draw(seed, numbered(0, 5), dim)
        expected = marginal.logpdf(z.double().numpy()).sum(axis=1)
        np.testing.assert_allclose(law.log_density(z).numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("law", "point", "measure"),
    [
        (Sphere(2.0), [0.0, 2.0], 4.0 * math.pi),  # circumference
        (Sphere(2.0), [0.0, 0.0, 2.0], 16.0 * math.pi),  # area
        (Sphere(), [1.0, 1.0, 1.0, 1.0], 2.0 * math.pi**2 * 8.0),
        (Ball(2.0), [0.0], 4.0),
        (Ball(2.0, center=1.0), [1.0, 2.9], 4.0 * math.pi),
        (Ball(2.0), [1.0, 1.0, 1.0], 32.0 / 3.0 * math.pi),
        (Ball(2.0), [0.0] * 4, math.pi**2 / 2.0 * 16.0),
        (Uniform(0.0, 3.0), [1.0, 2.0], 9.0),
    ],
    ids=str,
)
def test_uniform_densities_are_one_over_the_measure(law: Law, point: list[float], measure: float) -> None:
    assert law.uniform
    assert law.log_density(torch.tensor([point])).item() == pytest.approx(-math.log(measure), rel=1e-12)


@given(law=any_law, seed=seeds, dim=st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_no_drawn_row_is_off_its_support(law: Law, seed: int, dim: int) -> None:
    density = law.log_density(law.draw(seed, numbered(0, 50), dim))
    assert density.dtype == torch.float64
    assert density.isfinite().all()


@pytest.mark.parametrize(
    ("law", "point"),
    [
        (Uniform(), [0.0, 1.001]),
        (Uniform(), [-1.001, 0.0]),
        (TruncatedNormal(2.0), [0.0, -2.001]),
        (Sphere(), [1.0, 1.001]),
        (Sphere(2.0), [0.0, 0.0]),
        (Ball(1.0), [0.8, 0.7]),
        (Ball(1.0, center=2.0), [0.0, 0.0]),
        (Uniform(), [math.nan, 0.0]),
        (Ball(1.0), [math.nan, 0.0]),
    ],
    ids=str,
)
def test_density_off_the_support_is_zero(law: Law, point: list[float]) -> None:
    assert law.log_density(torch.tensor([point])).item() == -math.inf


@pytest.mark.parametrize("z", [torch.zeros(3), torch.zeros(2, 0), torch.zeros(2, 2, dtype=torch.int64)])
def test_bad_density_argument(z: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected floats of shape \[n, K\]"):
        Normal().log_density(z)


# --- regions, names, JSON ---------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 100, 512])
@pytest.mark.parametrize("mass", [0.5, 0.999])
def test_region_of_a_normal_law_holds_the_mass(dim: int, mass: float) -> None:
    law = Normal(0.3, 2.0)
    region = law.region(dim, mass)
    assert isinstance(region, Ball)
    inside = region.log_density(law.draw(8, numbered(0, 20_000), dim)).isfinite()
    share = inside.double().mean().item()
    assert abs(share - mass) < 5 * math.sqrt(mass * (1 - mass) / 20_000)


def test_regions_of_bounded_laws() -> None:
    assert TruncatedNormal(2.0).region(7) == Uniform(-2.0, 2.0)
    for law in LAWS:
        region = law.region(7)
        assert region.uniform
        assert not law.uniform or region is law


@pytest.mark.parametrize(("dim", "mass"), [(0, 0.9), (2, 0.0), (2, 1.0), (2, math.nan)])
def test_bad_region(dim: int, mass: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        Normal().region(dim, mass)


@given(law=any_law)
def test_json_round_trip(law: Law) -> None:
    import json

    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"law": "cauchy"}, "'cauchy'"),
        ({}, "None"),
        ({"law": "normal", "mean": 0.0}, r"\['mean'\]"),
        ({"law": "ball", "radius": 1.0, "center": 0.0, "shape": 1}, "shape"),
        ({"law": "ball", "radius": -1.0, "center": 0.0}, "positive"),
    ],
)
def test_bad_json(data: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Law.from_json(data)


def test_names() -> None:
    assert Law.of("normal") == Normal(0.0, 1.0)
    assert Law.of("uniform") == Uniform(-1.0, 1.0)
    assert Law.of("sphere") == Sphere()
    law = Ball(2.0)
    assert Law.of(law) is law
    with pytest.raises(ValueError, match=r"'ball'.*'normal', 'uniform', 'sphere'"):
        Law.of("ball")
    with pytest.raises(ValueError, match="expected a Law"):
        Law.of(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Normal(std=0.0), r"Normal\(std=0.0\).*positive"),
        (lambda: Normal(mean=math.nan), r"Normal\(mean=nan\).*finite"),
        (lambda: Uniform(1.0, 1.0), "low < high"),
        (lambda: Uniform(-math.inf, 1.0), "low=-inf"),
        (lambda: TruncatedNormal(-1.0), "c=-1.0"),
        (lambda: Sphere(0.0), "radius=0.0"),
        (lambda: Ball(math.inf), "radius=inf"),
        (lambda: Ball(1.0, center="0"), "center='0'"),  # type: ignore[arg-type]
        (lambda: Ball(True), "radius=True"),
    ],
)
def test_bad_parameters(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


def test_laws_are_values() -> None:
    assert Normal(0, 1) == Normal(0.0, 1.0)
    assert hash(Ball(2.0)) == hash(Ball(2))
    assert Ball(2.0) != Ball(2.0, center=1.0)
    with pytest.raises(AttributeError):
        Normal().std = 2.0  # type: ignore[misc]
