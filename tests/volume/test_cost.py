"""What routes cost, by count, and that no plan costs more than the exact route."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.volume import plan
from polarity_sampling.volume.calibration import MOST_DIRECTIONS
from polarity_sampling.volume.cost import Costs
from polarity_sampling.volume.log_volume import MAX_BATCH, MAX_GPU_BATCH, batch_size
from polarity_sampling.volume.plan import WORTH_FIXED, WORTH_ITERATING, _candidates
from torch import Tensor, nn

from tests.jacobian.test_active import generator as dcgan


class Uncaptured(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.sin() if z.sum() > -1e9 else z


def perceptron(hidden: int, outputs: int) -> ps.Generator:
    torch.manual_seed(0)
    layers = nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, outputs), nn.Tanh()
    return ps.Generator(nn.Sequential(*layers).float().eval(), 64)


def test_more_directions_cost_more():
    costs = Costs(perceptron(256, 500), 64, "1GiB")
    assert costs.products(8) < costs.products(9)
    by_width = [costs.fixed(width, 1) for width in (8, 16, 32, 64)]
    by_steps = [costs.fixed(8, steps) for steps in (1, 2, 3)]
    assert by_width == sorted(by_width)
    assert by_steps == sorted(by_steps)
    assert costs.fixed(8, 2) > 3 * costs.products(8)
    assert costs.exact <= costs.fixed(64, 1)
    assert costs.narrow(64, 64) == 1.0 < costs.narrow(8, 64) < costs.narrow(2, 64) < 2.0


def test_the_exact_route_of_a_perceptron_costs_what_is_taken():
    """With few active units nothing is multiplied by the last layer."""
    narrow = Costs(perceptron(40, 2000), 64, "1GiB")
    assert narrow.exact < 0.2 * narrow.fixed(64, 1)


def test_where_nothing_is_known_products_count():
    with pytest.warns(ps.PolarityWarning, match="cannot be captured"):
        costs = Costs(ps.Generator(Uncaptured(), 6), 6, "1GiB")
    assert costs.exact == 7.0
    assert costs.fixed(3, 2) == 12.0
    assert costs.narrow(2, 6) == pytest.approx(1.5 * 6 / 7)


@pytest.mark.parametrize(
    ("make", "some"),
    [(lambda: perceptron(256, 500), True), (lambda: dcgan(-1.0, dtype=torch.float32), False)],
    ids=["perceptron", "dcgan of five directions"],
)
def test_no_candidate_costs_more_than_most_of_the_exact_route(make, some):
    g = make()
    size = g.latent_dim
    costs = Costs(g, size, "1GiB")
    found = [costs.fixed(*plan) for plan in _candidates(1, size, costs)]
    assert bool(found) == some
    assert found == sorted(found)
    assert all(cost <= WORTH_FIXED * costs.exact for cost in found)
    costs.exact /= 100.0
    assert _candidates(1, size, costs) == []


@pytest.mark.parametrize(("size", "flops"), [(512, 5e8), (512, 1e12), (2000, 5e8)])
def test_what_iterating_may_cost(size, flops, monkeypatch):
    """On a GPU libraries take a latent at a time, as long as so many products of a small network."""

    class Somewhere:
        def __init__(self, kind: str) -> None:
            self.device, self.flops = torch.device(kind), flops

    monkeypatch.setattr(plan, "calibration_latents", lambda *_: (None, None))
    monkeypatch.setattr(plan, "jacobian", lambda generator, *_, **__: generator)
    on_cpu, on_gpu = (plan._worth_iterating(Somewhere(kind), size, "1GiB") for kind in ("cpu", "cuda"))
    assert on_cpu == WORTH_ITERATING * size
    if size > MOST_DIRECTIONS:
        assert on_gpu == on_cpu
    else:
        assert on_gpu == pytest.approx(WORTH_FIXED * size - plan.ADAPTING_ON_GPU / flops)
        assert (on_gpu > 0) == (flops > 1e9)


def test_batches_of_devices():
    cpu, gpu = (torch.device(kind) for kind in ("cpu", "cuda"))
    assert batch_size(2, 2, 1 << 40, cpu) == MAX_BATCH
    assert batch_size(2, 2, 1 << 40, gpu) == MAX_GPU_BATCH
    for device in (cpu, gpu):
        sizes = [batch_size(3072, 100, 1 << bits, device) for bits in (10, 26, 30, 34)]
        assert sizes[0] == 1
        assert sizes == sorted(sizes)
        assert all(size & (size - 1) == 0 for size in sizes), "powers of two: few captures"
    assert batch_size(3072, 100, 1 << 34, gpu) > batch_size(3072, 100, 1 << 34, cpu)
