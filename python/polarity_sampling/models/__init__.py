"""Pretrained generators by name, and generators of one's own by file.

`available()` lists the cards (licence and training data included), `install(name)` fetches the weights,
`load(name)` returns a `Generator`; `register` adds models of other packages.
"""

from polarity_sampling.models import digits, faces
from polarity_sampling.models.registry import ModelCard, available, card, install, load, register
from polarity_sampling.models.spec import load_spec

__all__ = ["ModelCard", "available", "card", "install", "load", "load_spec", "register"]

register(digits.CARD, load=digits.load, path=digits.path, install=digits.install)
register(faces.CARD, load=faces.load, path=faces.path, install=faces.install)
