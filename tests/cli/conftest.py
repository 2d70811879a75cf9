"""A file of small generators, as a user would write one, and the command run in a folder of its own."""

from collections.abc import Callable
from pathlib import Path

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.cli import app
from polarity_sampling.models import load_spec
from typer.testing import CliRunner, Result

MODELS = '''
import polarity_sampling as ps
import torch
from torch import nn


class Pictures(nn.Module):
    """R^4 -> grey pictures of 8 x 8."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 64), nn.Tanh())

    def forward(self, z):
        return self.body(z).view(-1, 1, 8, 8)


class Conditional(Pictures):
    """R^4 and one of three classes -> colour pictures of 8 x 8."""

    def __init__(self):
        super().__init__()
        self.colour = nn.Parameter(torch.eye(3))

    def forward(self, z, label):
        return super().forward(z) * self.colour[label][:, :, None, None]


class Shift(nn.Module):
    """No weights at all: R^2 -> a bent sheet in the plane, or in R^dim."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, z):
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x * torch.exp(0.5 * y), y, x + y, x - y, x * y][: self.dim], 1)


def pictures():
    return Pictures().eval()


def conditional():
    return ps.Generator(Conditional().eval(), latent_dim=4, num_classes=3)


def points():
    return ps.Generator(Shift(2), latent_dim=2, base=ps.Uniform(-1.0, 1.0))


def table():
    return ps.Generator(Shift(5), latent_dim=2)


def broken():
    raise RuntimeError("no such checkpoint")
'''

Polarity = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: empty but for models.py."""
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def polarity(folder: Path) -> Polarity:
    """Runs `polarity ...` in `folder`, in this process."""
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def bank(folder: Path) -> Path:
    """A bank of models.py:pictures, 96 rows with all 4 singular values."""
    path = folder / "pictures.bank"
    ps.Bank.build(load_spec("models.py:pictures"), 96, path, top_k=None, seed=3, progress=False)
    return path


@pytest.fixture(autouse=True)
def threads() -> object:
    """--threads is a setting of the process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
