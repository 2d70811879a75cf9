import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.cli.demo_plan import plan
from polarity_sampling.samplers import effective_sample_sizes
from torch import Tensor


class Volumes:
    """A bank of given log-volumes: column k of `logs` is the log of singular value k."""

    num_classes, labels = None, None
    law = base = ps.Normal()

    def __init__(self, logs: Tensor) -> None:
        self.logs = logs
        self.top_k = self.latent_dim = logs.shape[1]
        self.row_ids = torch.arange(len(logs))

    def __len__(self) -> int:
        return len(self.logs)

    def log_volume(self, top_k: int | None = None) -> tuple[Tensor, Tensor]:
        value = self.logs[:, :top_k].sum(1)
        return value, torch.zeros_like(value)

    def latents(self, rows: Tensor) -> Tensor:
        return torch.zeros(len(rows), self.latent_dim)


def holds(bank: Volumes, draws: int) -> None:
    chosen = plan(bank, draws)
    assert list(chosen.rhos) == sorted(chosen.rhos)
    assert chosen.rhos[-1] == 1.0
    assert effective_sample_sizes(bank, chosen.rhos, chosen.top_k).min() >= draws


def test_takes_as_many_values_as_the_bank_can_carry(seed: int) -> None:
    logs = torch.from_numpy(np.random.default_rng(seed).normal(size=(500, 30)))
    bank = Volumes(logs)
    chosen = plan(bank, 25)
    assert chosen.rhos == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert 1 <= chosen.top_k < 30
    holds(bank, 25)
    for more in range(chosen.top_k + 1, 31):
        assert effective_sample_sizes(bank, [-1.0, 1.0], more).min() < 25


def test_stops_short_of_minus_one_where_one_row_would_take_all() -> None:
    logs = torch.zeros(500, 3, dtype=torch.float64)
    logs[7, 0] = -12.0  # at rho = -1 this row has all the weight
    bank = Volumes(logs)
    chosen = plan(bank, 25)
    assert chosen.top_k == 3
    assert chosen.rhos == (-0.3, -0.15, 0.0, 0.15, 0.3, 1.0)  # exp(0.3 * 12) = 37 beside 499 rows of weight 1
    holds(bank, 25)


def test_leaves_out_negative_rho_altogether() -> None:
    logs = torch.zeros(500, 1, dtype=torch.float64)
    logs[7, 0] = -1e4
    assert plan(Volumes(logs), 25).rhos == (0.0, 1.0)


def test_gives_up_where_not_even_one_value_works() -> None:
    logs = torch.zeros(500, 2, dtype=torch.float64)
    logs[7, 0] = 50.0
    with pytest.raises(ps.SamplingError, match="larger bank"):
        plan(Volumes(logs), 25)
