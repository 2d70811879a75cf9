from collections.abc import Callable
from typing import Any

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.bank import shards
from torch import Tensor, nn

SMALL: dict[str, Any] = {"top_k": 3, "batch_size": 8, "shard_rows": 32, "progress": False}


def make_mlp(seed: int = 0) -> nn.Sequential:
    """A generator R^4 -> R^6 whose Jacobian has full rank everywhere."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))


class Conditional(nn.Module):
    """A generator R^4 x {0, 1, 2} -> R^6: each class has its own scale."""

    def __init__(self) -> None:
        super().__init__()
        self.body = make_mlp(1)
        self.scale = nn.Parameter(torch.tensor([[1.0], [2.0], [4.0]]))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.body(z) * self.scale[label]


Watch = Callable[[Callable[[int], None]], list[int]]
SameRows = Callable[[ps.Bank, ps.Bank], bool]


@pytest.fixture
def mlp() -> ps.Generator:
    return ps.Generator(make_mlp(), name="mlp")


@pytest.fixture
def other_mlp() -> ps.Generator:
    return ps.Generator(make_mlp(seed=1), name="mlp")


@pytest.fixture
def conditional() -> ps.Generator:
    return ps.Generator(Conditional(), latent_dim=4, num_classes=3, name="conditional")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Records the batch sizes of log_volume calls; calls `before` with the number so far, which may raise."""
    real = shards.log_volume

    def begin(before: Callable[[int], None]) -> list[int]:
        calls: list[int] = []

        def log_volume(generator: ps.Generator, z: Tensor, *args: Any, **kwargs: Any) -> ps.LogVolume:
            before(len(calls))
            calls.append(len(z))
            return real(generator, z, *args, **kwargs)

        monkeypatch.setattr(shards, "log_volume", log_volume)
        return calls

    return begin


@pytest.fixture
def computed(watch: Watch) -> list[int]:
    """Batch sizes of the log_volume calls that banks make from now on."""
    return watch(lambda calls: None)


@pytest.fixture
def same_rows() -> SameRows:
    """Whether two banks have equal columns, bit for bit."""

    def same(a: ps.Bank, b: ps.Bank) -> bool:
        left, right = a._columns.present(), b._columns.present()
        return left.keys() == right.keys() and all(
            left[name].shape == right[name].shape
            and bool(
                (
                    left[name].contiguous().view(torch.uint8) == right[name].contiguous().view(torch.uint8)
                ).all()
            )
            for name in left
        )

    return same
