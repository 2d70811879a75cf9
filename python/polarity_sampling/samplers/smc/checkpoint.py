"""A run on disk: one safetensors file whose header holds, as JSON, everything that is not a tensor.

One file is replaced whole, so a crash at any moment leaves the run before the last save or after it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.bank.files import storage_errors, write_atomically
from polarity_sampling.errors import SamplingError
from polarity_sampling.samplers.smc.state import Points, Rung, State, Stream
from polarity_sampling.samplers.smc.surrogate import Surrogate

FORMAT = 4
_SCALARS = (
    "rho", "sweeps", "size", "frozen", "thin", "correlation", "moves", "accepted", "evaluations",
    "screenings", "excluded", "cursor",
)  # fmt: skip
_POINTS = ("points", "anchor", "seen")


def save(path: Path, identity: Mapping[str, Any], states: Mapping[int | None, State]) -> None:
    """Write the populations of a run, by class, with what the run is a run of.

    Raises BankError when the disk is full or the path is not writable.
    """
    from safetensors.torch import save as to_bytes

    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for key, state in states.items():
        name = _name(key)
        scalars[name] = _scalars(state)
        tensors |= {f"{name}/{field}": tensor.contiguous() for field, tensor in _tensors(state).items()}
    header = {"format": FORMAT, "run": dict(identity), "states": scalars}
    write_atomically(path, to_bytes(tensors, {"smc": json.dumps(header)}))


def load(path: Path, identity: Mapping[str, Any]) -> dict[int | None, State]:
    """Read what `save` wrote.

    Raises SamplingError when the file is not a checkpoint, is damaged, or is one of another run; BankError
    when it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with storage_errors(f"reading {path}"), safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["smc"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, KeyError, ValueError) as error:
        raise SamplingError(
            f"{path} is not a checkpoint of an SMC run, or is damaged ({error}): choose another path, or "
            "delete it to start over if it is a run's"
        ) from error
    if header["format"] != FORMAT:
        raise SamplingError(
            f"{path} has format {header['format']}, this version reads {FORMAT}: delete it to start over"
        )
    if header["run"] != dict(identity):
        differing = [name for name in identity if header["run"].get(name) != identity[name]]
        found = ", ".join(f"{n}={header['run'].get(n)!r} there, {identity[n]!r} here" for n in differing)
        raise SamplingError(f"{path} belongs to another run ({found}): choose another path, or delete it")
    states = {}
    for name, scalars in header["states"].items():
        own = {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}
        states[_key(name)] = _state(scalars, own)
    return states


def _name(key: int | None) -> str:
    return "all" if key is None else f"class {key}"


def _key(name: str) -> int | None:
    return None if name == "all" else int(name.removeprefix("class "))


def _tensors(state: State) -> dict[str, Tensor]:
    tensors = {"ancestor": state.ancestor}
    for name in _POINTS:
        points: Points | None = getattr(state, name)
        if points is not None:
            tensors |= {f"{name}.x": points.x, f"{name}.log_volume": points.log_volume}
            if points.label is not None:
                tensors[f"{name}.label"] = points.label
    if state.surrogate is not None:
        tensors |= {f"surrogate.{i}": w for i, w in enumerate(state.surrogate.weights)}
    return {name: tensor.clone() for name, tensor in tensors.items()}  # safetensors refuses shared memory


def _scalars(state: State) -> dict[str, Any]:
    scalars = {name: getattr(state, name) for name in _SCALARS}
    scalars["stream"] = dataclasses.asdict(state.stream)
    scalars["ladder"] = [dataclasses.asdict(rung) for rung in state.ladder]
    if state.surrogate is not None:
        fields = dataclasses.asdict(state.surrogate)
        scalars["surrogate"] = {name: value for name, value in fields.items() if name != "weights"}
    return scalars


def _state(scalars: dict[str, Any], tensors: dict[str, Tensor]) -> State:
    points = {
        name: Points(tensors[f"{name}.x"], tensors.get(f"{name}.label"), tensors[f"{name}.log_volume"])
        for name in _POINTS
        if f"{name}.x" in tensors
    }
    surrogate = None
    if "surrogate" in scalars:
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in scalars["surrogate"].items()
        }
        count = sum(name.startswith("surrogate.") for name in tensors)
        weights: tuple[torch.Tensor, ...] = tuple(tensors[f"surrogate.{i}"] for i in range(count))
        surrogate = Surrogate(weights, **fields)
    return State(
        stream=Stream(**scalars["stream"]),
        ancestor=tensors["ancestor"],
        points=points["points"],
        anchor=points["anchor"],
        seen=points.get("seen"),
        surrogate=surrogate,
        ladder=tuple(Rung(**rung) for rung in scalars["ladder"]),
        **{name: scalars[name] for name in _SCALARS},
    )
