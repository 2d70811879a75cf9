"""The registry: cards, errors, and models that other packages add."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from polarity_sampling import Generator, models
from polarity_sampling.errors import ModelError
from polarity_sampling.models import registry
from torch import nn

CARD = models.ModelCard(
    name="linear",
    description="a linear map",
    latent_dim=3,
    output_shape=(5,),
    value_range=(-9.0, 9.0),
    licence="none",
    data="not trained",
    source="this test",
)


@pytest.fixture
def own_models(monkeypatch):
    """A registry in which a test can register without a trace."""
    monkeypatch.setattr(registry, "_models", dict(registry._models))


@pytest.fixture
def linear(own_models, tmp_path):
    file = tmp_path / "linear.weights"

    def install() -> Path:
        file.write_bytes(b"weights")
        return file

    models.register(CARD, load=lambda: nn.Linear(3, 5), path=lambda: file, install=install)
    return file


def test_cards_of_the_bundled_models():
    cards = {card.name: card for card in models.available()}
    assert cards.keys() >= {"digits", "faces"}
    assert cards["digits"].installed
    assert "non-commercial" in cards["faces"].data
    assert "MIT" in cards["faces"].licence
    for card in cards.values():
        assert card.latent_dim > 0
        assert card.description
        assert card.data
        assert card.source
        assert card == models.card(card.name)


def test_install_then_load(linear):
    assert not models.card("linear").installed
    with pytest.raises(ModelError, match=r"not installed .*polarity models install linear"):
        models.load("linear")
    assert models.install("linear") == linear
    assert models.card("linear").installed
    generator = models.load("linear", dtype=torch.float64)
    assert isinstance(generator, Generator)
    assert generator.name == "linear"
    assert generator.latent_dim == 3
    assert generator(torch.zeros(2, 3, dtype=torch.float64)).shape == (2, 5)
    assert next(generator.module.parameters()).dtype == torch.float64


def test_a_model_may_bring_its_own_generator(own_models, tmp_path):
    made = Generator(nn.Linear(3, 5), latent_dim=3, name="kept")
    file = tmp_path / "weights"
    file.touch()
    models.register(replace(CARD, name="whole"), load=lambda: made, path=lambda: file, install=lambda: file)
    assert models.load("whole") is made


def test_unknown_name_lists_the_models_and_the_nearest():
    message = r"'digit'.*digits, faces.*Did you mean 'digits'\?.*path\.py:function"
    with pytest.raises(ModelError, match=message):
        models.load("digit")
    with pytest.raises(ModelError, match=r"registered models are .*faces"):
        models.install("")


@pytest.mark.parametrize("name", ["digits", "", "c:model"])
def test_register_refuses_taken_and_ambiguous_names(own_models, name):
    before = models.available()
    with pytest.raises(ValueError, match=r"card\.name"):
        models.register(replace(CARD, name=name), load=lambda: nn.Identity(), path=Path, install=Path)
    assert models.available() == before
