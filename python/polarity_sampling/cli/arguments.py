"""What is written on the command line, turned into what the library takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from polarity_sampling.generator import Generator
from polarity_sampling.laws import Ball, Law, Normal, Sphere, TruncatedNormal, Uniform

_LAWS: dict[str, type[Law]] = {
    "normal": Normal,
    "uniform": Uniform,
    "truncated_normal": TruncatedNormal,
    "sphere": Sphere,
    "ball": Ball,
}


def parse_top_k(text: str) -> str | int | None:
    """ "auto", "all" (None) or a number."""
    if text == "auto":
        return "auto"
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--top-k {text}: expected auto, all or a number") from None


def parse_rho(text: str) -> float | Literal["auto"]:
    """A number, or "auto"."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--rho {text}: expected a number or auto") from None


def parse_law(text: str) -> Law:
    """NAME or NAME:NUMBER[,NUMBER], the numbers being the law's parameters: ball:12, uniform:-1,1."""
    name, _, rest = text.partition(":")
    if name not in _LAWS:
        raise ValueError(f"law {text}: expected one of {', '.join(_LAWS)}, with numbers as in ball:12.0")
    try:
        return _LAWS[name](*numbers(rest, text))
    except TypeError:
        raise ValueError(f"law {text}: {name} takes another number of parameters, as in ball:12.0") from None


def parse_proposal(text: str, generator: Generator) -> Law | None:
    """A law; "ball" is the region MaGNET covers under the generator's base law, "none" no proposal."""
    if text == "none":
        return None
    if text == "ball":
        return generator.base.region(generator.latent_dim)
    return parse_law(text)


def parse_label(text: str | None) -> int | list[int] | str | None:
    """One class, classes separated by commas, or "balanced"."""
    if text is None or text == "balanced":
        return text
    try:
        classes = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--label {text}: expected a class, classes such as 0,1,2, or balanced") from None
    return classes[0] if len(classes) == 1 else classes


def numbers(text: str, whole: str) -> list[float]:
    """Numbers separated by commas; none in the empty text."""
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ValueError(f"{whole}: expected numbers separated by commas") from None


def require_new(paths: Sequence[Path], force: bool) -> None:
    """Refuse to overwrite files unless forced, and to write into folders that are not there.

    Raises FileExistsError, FileNotFoundError.
    """
    for path in paths:
        if path.exists() and not force:
            raise FileExistsError(f"{path} exists: choose another name, or --force to overwrite it")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent} is not a folder: create it, or choose another path")


def place(generator: Generator, device: str | None) -> None:
    """Move a generator's module to a device, named as torch does.

    None: where it is; but that of a registered model, which nobody has put anywhere, to a GPU if there is
    one.
    """
    import torch

    from polarity_sampling.models import available

    gpus = torch.cuda.device_count()
    if device is None:
        if not gpus or generator.name not in {card.name for card in available()}:
            return
        device = "cuda"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ValueError(f"--device {device}: expected cpu, cuda or cuda:NUMBER") from None
    if wanted.type == "cuda" and (wanted.index or 0) >= gpus:
        raise ValueError(
            f"--device {device}: torch {torch.__version__} sees {gpus} GPUs; choose another one, or cpu "
            "(a GPU also needs a build of torch for CUDA)"
        )
    generator.module.to(wanted)
