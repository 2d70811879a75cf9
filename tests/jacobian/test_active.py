"""Convolutions that leave out inactive units: when, what they give, and what decides it."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian.active import ActiveTail
from polarity_sampling.jacobian.compiled import compiled
from polarity_sampling.jacobian.epilogue import Convolutions
from polarity_sampling.jacobian.program import Program
from torch import Tensor, nn


def generator(bias: float, slope: float = 0.0, dtype: torch.dtype = torch.float64) -> ps.Generator:
    """A DCGAN in small. A unit is active where a standard normal number is above -bias, more or less."""
    torch.manual_seed(0)
    rectifier = nn.LeakyReLU(slope) if slope else nn.ReLU()

    def norm(channels: int) -> nn.Module:
        layer = nn.BatchNorm2d(channels)
        nn.init.constant_(layer.bias, bias)
        return layer

    module = nn.Sequential(
        nn.Unflatten(1, (5, 1, 1)),
        nn.ConvTranspose2d(5, 40, 3, bias=False),
        norm(40),
        rectifier,
        nn.ConvTranspose2d(40, 36, 4, 2, 1),
        norm(36),
        rectifier,
        nn.Conv2d(36, 34, 3, 1, 1),
        norm(34),
        rectifier,
        nn.ConvTranspose2d(34, 2, 3, 2, 1),
        nn.Tanh(),
    ).to(dtype)
    with torch.no_grad():  # running statistics of what it sees
        for layer in module:
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        module.train()(torch.randn(500, 5, dtype=dtype))
    return ps.Generator(module.eval(), 5)


def tail(program: Program) -> ActiveTail | None:
    (stage,) = [step.stage for step in program._steps if isinstance(step.stage, Convolutions)]
    return stage._tail


def exact(g: ps.Generator, z: Tensor) -> Tensor:
    return torch.stack([torch.func.jacfwd(lambda z: g.module(z[None]).flatten())(row) for row in z])


@pytest.mark.parametrize("bias", [-1.0, 0.0])
@pytest.mark.parametrize("probes", [1, 5, 16, 70])
def test_products(bias: float, probes: int) -> None:
    g = generator(bias)
    z = torch.randn(3, 5, dtype=torch.float64)
    J, expected = ps.jacobian(g, z), exact(g, z)
    V = torch.randn(3, 5, probes, dtype=torch.float64)
    torch.testing.assert_close(J @ V, expected @ V)
    shared = torch.randn(5, probes, dtype=torch.float64)
    torch.testing.assert_close(J @ shared, expected @ shared)
    U = torch.randn(3, expected.shape[1], probes, dtype=torch.float64)
    torch.testing.assert_close(J.mT @ U, expected.mT @ U)
    shared = torch.randn(expected.shape[1], probes, dtype=torch.float64)
    torch.testing.assert_close(J.mT @ shared, expected.mT @ shared)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_wherever_it_begins(start: int, transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActiveTail, "start", lambda self, probes, shared: start)
    g = generator(-0.5)
    z = torch.randn(2, 5, dtype=torch.float64)
    J, expected = ps.jacobian(g, z), exact(g, z)
    if transposed:
        J, expected = J.mT, expected.mT
    for shape in ((2, expected.shape[2], 9), (expected.shape[2], 9)):
        V = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(J @ V, expected @ V)


def test_few_active_units_are_what_it_is_for() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    few, half, many = (compiled(generator(bias), z, None) for bias in (-1.5, 0.0, 4.0))
    for program in (few.push, few.pull):
        found = tail(program)
        assert found is not None
        assert found.start(64, shared=False) == 0
    found = tail(few.push)
    assert found is not None
    assert found.start(64, shared=True) == 1
    assert tail(many.push) is None
    found = tail(half.push)
    assert found is not None
    assert found.start(64, shared=False) == 0
    assert found.start(1, shared=False) is None, "one probe leaves most of a register empty"
    # What is not formed does not count against the size of blocks.
    assert few.push.largest < many.push.largest


def test_few_probes_take_the_time_of_a_register() -> None:
    z = torch.randn(4, 5, dtype=torch.float64)
    few, many = (compiled(generator(bias), z, None) for bias in (-1.5, 4.0))
    for program in (few.push, few.pull):
        found = tail(program)
        assert found is not None
        assert found.work(7) == found.work(8), "a register has eight numbers"
        assert found.work(8) < found.work(9)
        assert found.work(32) < 3 * found.work(8), "weights are read for four registers"
        assert found.work(64) == pytest.approx(2 * found.work(32))
    assert many.push.work(15) == pytest.approx(8 * many.push.work(1))
    assert few.push.work(32) < 0.2 * many.push.work(32)


def test_leaky_units_are_never_inactive() -> None:
    lowered = compiled(generator(-1.5, slope=0.2), torch.randn(2, 5, dtype=torch.float64), None)
    assert tail(lowered.push) is None
    assert tail(lowered.pull) is None


def test_the_choice_is_the_generators() -> None:
    """Not that of the latents which somebody asks for first: banks are cut and extended."""
    starts = []
    for scale in (0.0, 1.0, 30.0):
        g = generator(-0.3)
        z = scale * torch.randn(8, 5, dtype=torch.float64)
        found = tail(compiled(g, z, None).push)
        assert found is not None
        starts.append((found._active, [found.start(n, shared=False) for n in (1, 8, 64)]))
    assert starts[0] == starts[1] == starts[2]


def test_float32_products_behind_a_forward_pass_in_float64() -> None:
    g = generator(-1.0, dtype=torch.float32)
    z = torch.randn(4, 5)
    J = ps.jacobian(g, z, primal="float64")
    expected = exact(g.in_dtype(torch.float64), z.double())
    assert tail(compiled(g, z, None).push) is not None
    found = J.to_dense()
    assert float((found - expected).norm() / expected.norm()) < 1e-6
    torch.testing.assert_close(J.in_float64(torch.eye(5, dtype=torch.float64)), expected)


def test_other_precisions_take_the_librarys() -> None:
    g = generator(-1.0, dtype=torch.float32)
    z = torch.randn(4, 5)
    lowered = compiled(g, z, None, torch.bfloat16)
    assert tail(lowered.push) is None
    lean = compiled(g, z, None, lean=True)
    assert tail(lean.push) is None
