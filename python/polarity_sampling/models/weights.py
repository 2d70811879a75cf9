"""Weight files: where they are kept, how they are written, and how they are checked before use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from polarity_sampling.errors import ModelError

Module = TypeVar("Module", bound=nn.Module)


def cache_dir() -> Path:
    """The folder of downloaded weights: `polarity-sampling` in the user's cache directory.

    That is `$XDG_CACHE_HOME` where set, else `~/.cache`, `~/Library/Caches` (macOS) or
    `%LOCALAPPDATA%` (Windows).
    """
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification says to ignore relative paths
        base = Path(xdg)
    elif platform.system() == "Darwin":
        base = Path.home() / "Library" / "Caches"
    elif platform.system() == "Windows":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path.home() / ".cache"
    return base / "polarity-sampling"


def content_hash(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values.

    Of the tensors and not of a file, because different versions of safetensors may lay out the same tensors
    differently.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, creating its folder: either the whole file appears or nothing does.

    Raises:
        ModelError: if the folder cannot be written or the disk is full.
    """
    from safetensors.torch import save

    data = save({name: tensor.contiguous() for name, tensor in state.items()}, metadata)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise ModelError(
            f"cannot write {path}: {error}. Free some space, or set XDG_CACHE_HOME to a folder of yours."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ModelError: if the file is not a whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return state


def check(state: dict[str, Tensor], kind: type[nn.Module], where: str) -> None:
    """Check that `state` holds exactly the tensors of the module class `kind`.

    Raises:
        ModelError: naming the first tensor that is missing, unexpected, or of another shape.
    """
    with torch.device("meta"):
        expected = kind().state_dict()
    for name in sorted(expected.keys() | state.keys()):
        want, have = (
            list(tensors[name].shape) if isinstance(tensors.get(name), Tensor) else "no such tensor"
            for tensors in (expected, state)
        )
        if want != have:
            raise ModelError(f"{where} does not fit {kind.__name__}: {name} is {have}, expected {want}")


def build(kind: type[Module], state: dict[str, Tensor]) -> Module:
    """A frozen module of class `kind` in eval mode that holds `state`; no random numbers are drawn."""
    with torch.device("meta"):
        module = kind()
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)
