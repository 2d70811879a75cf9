"""Named pretrained generators: what there is, under which licence, and how to get one."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from polarity_sampling.errors import ModelError
from polarity_sampling.generator import Generator


@dataclass(frozen=True)
class ModelCard:
    """What a person should know before using a model.

    `output_shape` is the shape of one sample, `value_range` the interval its values lie in. `data`
    says what the model was trained on and what follows for its use. `installed` is filled in by
    `available` and `card`.
    """

    name: str
    description: str
    latent_dim: int
    output_shape: tuple[int, ...]
    value_range: tuple[float, float]
    licence: str
    data: str
    source: str
    installed: bool = False


@dataclass(frozen=True)
class _Model:
    card: ModelCard
    load: Callable[[], nn.Module | Generator]
    path: Callable[[], Path]
    install: Callable[[], Path]


_models: dict[str, _Model] = {}


def register(
    card: ModelCard,
    *,
    load: Callable[[], nn.Module | Generator],
    path: Callable[[], Path],
    install: Callable[[], Path],
) -> None:
    """Add a model to the registry.

    Args:
        card: its card; `card.name` is the name it is loaded by.
        load: returns the module with its weights, in eval mode, or a whole `Generator` (needed where
            the base law is not the standard normal). Called only when `path` exists.
        path: where the weights are once installed.
        install: puts the weights there and returns the path; does nothing if they already are.

    Raises:
        ValueError: if the name is taken, empty, or could be read as a file (contains `:`).
    """
    if not card.name or ":" in card.name:
        raise ValueError(f"card.name is {card.name!r}: use a non-empty name without ':'")
    if card.name in _models:
        raise ValueError(f"card.name: a model {card.name!r} is already registered; choose another name")
    _models[card.name] = _Model(card, load, path, install)


def _find(name: str) -> _Model:
    if name not in _models:
        close = difflib.get_close_matches(name, _models, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ModelError(
            f"name is {name!r}, but the registered models are {', '.join(sorted(_models))}.{hint} "
            f"For a model of your own give 'path.py:function'."
        )
    return _models[name]


def card(name: str) -> ModelCard:
    """The card of one model.

    Raises:
        ModelError: if no model has that name.
    """
    model = _find(name)
    return replace(model.card, installed=model.path().is_file())


def available() -> list[ModelCard]:
    """The cards of all registered models, sorted by name."""
    return [card(name) for name in sorted(_models)]


def install(name: str) -> Path:
    """Make a model usable on this machine and return the path of its weights.

    Does nothing if the weights are already there and intact.

    Raises:
        ModelError: if no model has that name, or the weights cannot be fetched, checked or written.
    """
    return _find(name).install()


def load(name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Generator:
    """Load an installed model.

    Args:
        name: a registered name, see `available`.
        device: where its weights go.
        dtype: the floating-point type of its weights.

    Raises:
        ModelError: if no model has that name, it is not installed, or its weights are damaged.
    """
    model = _find(name)
    if not model.path().is_file():
        raise ModelError(
            f"model {name!r} is not installed (no file {model.path()}): run `polarity models install {name}`"
        )
    loaded = model.load()
    module = loaded.module if isinstance(loaded, Generator) else loaded
    module.to(device=device, dtype=dtype)
    if isinstance(loaded, Generator):
        return loaded
    return Generator(module, latent_dim=model.card.latent_dim, name=name)
