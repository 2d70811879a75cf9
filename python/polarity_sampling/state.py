"""Whether a module is still the one it was: what everything that is kept of modules hangs on."""

import weakref
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

# Changes whenever a parameter or buffer is replaced or written to, or another change has been noticed.
Version = tuple[int, tuple[tuple[int, int], ...]]
_PLAIN = {bool, int, float, str, type(None)}


@dataclass(frozen=True)
class Weights:
    """All parameters and buffers of a module at one moment."""

    version: Version
    dtype: torch.dtype | None
    device: torch.device


@dataclass(frozen=True)
class Seen:
    """A module at one moment."""

    stamps: tuple[tuple[int, int], ...]
    """Of every tensor its address and its count of writes, which are read at once."""
    contents: tuple[Any, ...]
    """What can change without them: sums of tensors (``p.data.mul_(...)`` is not counted), layers, and their
    attributes."""


@dataclass(frozen=True)
class _Known:
    seen: Seen
    edits: int
    own_stamps: frozenset[int]
    own_contents: frozenset[int]
    """What a forward pass itself changes (a counter, an average that nothing reads). It says nothing: the
    module has been found to give the same samples all the same."""


_known: "weakref.WeakKeyDictionary[nn.Module, _Known]" = weakref.WeakKeyDictionary()


def version(module: nn.Module) -> Version:
    """Cheap stamp of the weights."""
    return _version(module, tensors(module))


def dtype(module: nn.Module) -> torch.dtype | None:
    """Of its parameters and buffers in floating point; None without any."""
    return _dtype(tensors(module))


def device(module: nn.Module) -> torch.device:
    """Of its parameters and buffers; the CPU without any."""
    return _device(tensors(module))


def weights(module: nn.Module) -> Weights:
    """All three."""
    found = tensors(module)
    return Weights(_version(module, found), _dtype(found), _device(found))


def _version(module: nn.Module, found: list[Tensor]) -> Version:
    known, stamps = _known.get(module), _stamps(found)
    return (0, stamps) if known is None else (known.edits, _without(stamps, known.own_stamps))


def _dtype(found: list[Tensor]) -> torch.dtype | None:
    return next((tensor.dtype for tensor in found if tensor.is_floating_point()), None)


def _device(found: list[Tensor]) -> torch.device:
    return found[0].device if found else torch.device("cpu")


def is_as_it_was(module: nn.Module, now: Version) -> bool:
    """Whether nothing has changed since `remember`, not even behind the back of the counts of writes.

    Args:
        now: the module's `version`.
    """
    known = _known.get(module)
    if known is None or _without(known.seen.stamps, known.own_stamps) != now[1]:
        return False
    before, contents = known.seen.contents, _contents(module)
    return _without(before, known.own_contents) == _without(contents, known.own_contents)


def look(module: nn.Module) -> Seen:
    """The module as it is now."""
    return Seen(_stamps(tensors(module)), _contents(module))


def remember(module: nn.Module, before: Seen) -> None:
    """As what to compare with from now on, given how it was before some forward passes."""
    last, now = _known.get(module), look(module)
    _known[module] = _Known(
        now,
        0 if last is None else last.edits + 1,
        _different(before.stamps, now.stamps),
        _different(before.contents, now.contents),
    )


def inherit(copy: nn.Module, module: nn.Module) -> None:
    """What is known of `module` holds for its copy."""
    if module in _known:
        _known[copy] = _known[module]


def tensors(module: nn.Module) -> list[Tensor]:
    """Parameters, then buffers; at every call, so without the names that torch makes for each."""
    return _tensors(_modules(module))


def _tensors(modules: list[nn.Module]) -> list[Tensor]:
    parameters = [tensor for part in modules for tensor in part._parameters.values() if tensor is not None]
    buffers = [tensor for part in modules for tensor in part._buffers.values() if tensor is not None]
    return [*parameters, *buffers]


def _modules(module: nn.Module) -> list[nn.Module]:
    found, seen = [module], {module}
    for part in found:
        for child in part._modules.values():
            if child is not None and child not in seen:  # modules may be shared, or hold each other
                seen.add(child)
                found.append(child)
    return found


def _stamps(found: list[Tensor]) -> tuple[tuple[int, int], ...]:
    # Inference tensors have no count of writes, and nothing outside inference mode writes to them.
    return tuple([(t.data_ptr(), 0 if t.is_inference() else t._version) for t in found])


def _contents(module: nn.Module) -> tuple[Any, ...]:
    entries: list[Any] = []
    modules = _modules(module)
    for part in modules:
        entries.append((type(part), *map(id, part._modules.values())))
        entries += [
            (name, value if type(value) in _PLAIN else _value(value))
            for name, value in list(vars(part).items())
            if name[:1] != "_"
        ]
    return (*entries, *_totals(_tensors(modules)))


def _value(value: Any) -> Any:
    """What there is to compare of an attribute; None where it is nothing plain."""
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, tuple):
        return tuple(map(_value, value))
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return id(value)
    if isinstance(value, Tensor):
        return _totals([value])[0]
    return value if isinstance(value, tuple(_PLAIN)) else None


def _totals(all_tensors: list[Tensor]) -> list[Any]:
    """Sums; those on a GPU are fetched together, so that it is waited for once."""
    totals: list[Any] = [None] * len(all_tensors)
    alike: defaultdict[tuple[torch.dtype, torch.device], list[tuple[int, Tensor]]] = defaultdict(list)
    with torch.no_grad():
        for i, tensor in enumerate(all_tensors):
            try:
                total = tensor.sum()
                if total.is_cpu:
                    totals[i] = total.item()
                else:
                    alike[total.dtype, total.device].append((i, total))
            except (RuntimeError, NotImplementedError):  # packed or quantised, say: taken for constant
                continue
        for pairs in alike.values():
            with suppress(RuntimeError, NotImplementedError):
                found = torch.stack([total for _, total in pairs]).tolist()
                for (i, _), total in zip(pairs, found, strict=True):
                    totals[i] = total
    return totals


def _without(entries: tuple[Any, ...], left_out: frozenset[int]) -> tuple[Any, ...]:
    return tuple(e for i, e in enumerate(entries) if i not in left_out) if left_out else entries


def _different(before: tuple[Any, ...], now: tuple[Any, ...]) -> frozenset[int]:
    pairs = enumerate(zip(before, now, strict=False))
    return frozenset(i for i, (old, new) in pairs if old != new)
