"""Real pretrained generators for tests, where the folder with them is beside the checkout.

They are not part of the project: without the folder the tests that need them are skipped, and say so.
"""

import json
from pathlib import Path

import polarity_sampling as ps
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
if not NAMES:
    NAMES = [
        pytest.param("none", marks=pytest.mark.skip(reason=f"no pretrained generators in {FOLDER.name}/"))
    ]


class _Reshape(nn.Module):
    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.shape)


class _Described(nn.Module):
    """The network that a JSON description spells out, layer by layer."""

    def __init__(self, description: dict) -> None:
        super().__init__()
        classes = {"Reshape": _Reshape}
        layers = [classes.get(n, getattr(nn, n, None))(*a, **k) for n, a, k in description["layers"]]
        self.net = nn.Sequential(*layers)
        self.cond = description["cond"]
        if self.cond and self.cond["type"] == "embedding":
            self.emb = nn.Embedding(self.cond["classes"], self.cond["dim"])

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if self.cond and self.cond["type"] == "embedding":
            z = torch.cat([z, self.emb(label)], 1)
        elif self.cond:
            z = torch.cat([z, torch.eye(self.cond["classes"], dtype=z.dtype, device=z.device)[label]], 1)
        return self.net(z)


def load(name: str) -> ps.Generator:
    """The generator NAME.json describes, with its base law and classes."""
    description = json.loads((FOLDER / f"{name}.json").read_text())
    module = _Described(description).eval()
    weights = load_file(FOLDER / f"{name}.safetensors")
    missing = module.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    assert not [k for k in missing.missing_keys if "num_batches_tracked" not in k], missing
    latent = description["latent"]
    if latent["prior"] == "uniform":
        base: ps.Law = ps.Uniform(latent["low"], latent["high"])
    else:
        base = ps.Normal(latent.get("mean", 0.0), latent.get("std", 1.0))
    classes = module.cond["classes"] if module.cond else None
    return ps.Generator(module, latent["dim"], base, classes, name=name)


def latents(generator: ps.Generator, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Draws of the base law, with every class in turn."""
    z = generator.base.draw(seed, torch.arange(count), generator.latent_dim)
    classes = generator.num_classes
    return z, None if classes is None else torch.arange(count) % classes
