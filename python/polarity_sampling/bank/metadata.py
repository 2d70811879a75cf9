"""What a bank is made of: every setting that decides its rows, and where they were computed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from polarity_sampling.bank.files import storage_errors, write_atomically
from polarity_sampling.errors import BankError
from polarity_sampling.laws import Law, Sphere

FORMAT = 1
FILE = "metadata.json"

# A row is a function of these and its row id; the other fields say how far the bank goes and who made it.
_DECISIVE = (
    "origin", "weight_hash", "latent_dim", "base", "law", "num_classes", "class_prior", "seed", "top_k",
    "tol", "batch_size", "shard_rows", "store_latents", "memory",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """Where rows were computed. A change may change their last bits: it is recorded and warned about."""

    library_version: str
    torch_version: str
    threads: int
    device: str

    @staticmethod
    def current(device: torch.device) -> Environment:
        """This process, computing on the given device."""
        try:
            library = version("polarity-sampling")
        except PackageNotFoundError:  # run from a source tree
            library = "unknown"
        on_cuda = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if on_cuda else f"{device.type} {platform.machine()}"
        return Environment(library, torch.__version__, torch.get_num_threads(), name)


@dataclass(frozen=True)
class BankMetadata:
    """Settings of a bank; `metadata.json` in its directory.

    Attributes:
        model: name of the generator (informative; the identity is weight_hash).
        weight_hash: SHA-256 of the generator, None for an import made without one.
        latent_dim: K.
        directions: n, the singular values of a latent that are not zero by construction (informative).
        base: the generator's own latent law.
        law: what the rows were drawn from: the proposal, or base.
        num_classes: classes of a conditional generator, else None.
        class_prior: probability of each class for the labels, else None.
        seed: stream of latents and labels.
        n: rows of the bank once complete.
        top_k: stored singular values per row.
        top_k_auto: top_k was found by calibration.
        tol: wanted error, nats.
        memory: budget of the Jacobian products, bytes; it decides how they are cut, hence the last bits.
        batch_size: latents per log_volume call; batches are aligned to row ids.
        shard_rows: rows per shard file, a multiple of batch_size.
        store_latents: latents are stored, not regenerated from (seed, row id).
        origin: "build", or "npz" and the SHA-256 of the imported arrays.
        created: UTC time of the first build, ISO 8601.
        environments: where the rows were computed, in order; more than one after a resume elsewhere.
        format: version of the file format.
    """

    model: str
    weight_hash: str | None
    latent_dim: int
    directions: int
    base: Law
    law: Law
    num_classes: int | None
    class_prior: tuple[float, ...] | None
    seed: int
    n: int
    top_k: int
    top_k_auto: bool
    tol: float
    batch_size: int
    shard_rows: int
    store_latents: bool
    memory: int
    origin: str
    created: str
    environments: tuple[Environment, ...]
    format: int = FORMAT

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a row; each shard carries it."""
        data = self.to_json()
        text = json.dumps({name: data[name] for name in ("format", *_DECISIVE)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, expected: BankMetadata) -> list[str]:
        """Decisive settings in which this bank is not the expected one, in words; empty if none."""
        mine, theirs = self.to_json(), expected.to_json()
        return [
            f"{name}: found {mine[name]!r}, expected {theirs[name]!r}"
            for name in _DECISIVE
            if mine[name] != theirs[name]
        ]

    def to_json(self) -> dict[str, Any]:
        """The metadata as a JSON-ready dict."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return data | {
            "base": self.base.to_json(),
            "law": self.law.to_json(),
            "class_prior": None if self.class_prior is None else list(self.class_prior),
            "environments": [dataclasses.asdict(environment) for environment in self.environments],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> BankMetadata:
        """Inverse of to_json. Raises KeyError, TypeError or ValueError when it is not one's output."""
        base = Law.from_json(data["base"])
        # Banks of earlier versions count them as if every generator saw all of R^K.
        data = {"directions": data["latent_dim"] - isinstance(base, Sphere)} | data
        for name in ("format", "latent_dim", "directions", "seed", "n", "top_k", "batch_size", "shard_rows"):
            if type(data[name]) is not int:
                raise TypeError(f"{name} is {data[name]!r}, expected an integer")
            least = 0 if name == "seed" else 1
            if data[name] < least:
                raise ValueError(f"{name} is {data[name]}, expected at least {least}")
        prior = data["class_prior"]
        return BankMetadata(
            **data
            | {
                "base": base,
                "law": Law.from_json(data["law"]),
                "class_prior": None if prior is None else tuple(prior),
                "environments": tuple(Environment(**environment) for environment in data["environments"]),
            }
        )

    def write(self, directory: Path) -> None:
        """Write metadata.json atomically."""
        text = json.dumps(self.to_json(), indent=2) + "\n"
        write_atomically(directory / FILE, text.encode())

    @staticmethod
    def read(directory: Path) -> BankMetadata:
        """Read metadata.json. Raises BankError when it is missing, damaged or of a newer format."""
        path = directory / FILE
        if not path.is_file():
            raise BankError(f"{directory} is not a bank (no {FILE}): build one with Bank.build(path=...)")
        try:
            with storage_errors(f"reading {path}"):
                data = json.loads(path.read_text())
            found = data["format"]
            if isinstance(found, int) and found > FORMAT:
                raise BankError(
                    f"{path}: bank format {found}, this library reads up to {FORMAT}. "
                    "A newer polarity-sampling wrote it: upgrade with pip install -U polarity-sampling"
                )
            return BankMetadata.from_json(data)
        except (KeyError, TypeError, ValueError) as error:
            raise BankError(
                f"{path} is damaged ({type(error).__name__}: {error}). Restore it from a copy, or delete the "
                "bank's directory and build again"
            ) from error
