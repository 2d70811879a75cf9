"""Whether a module is still the one it was: what everything that is kept of modules hangs on."""

import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

# Changes whenever a parameter or buffer is replaced or written to, or another change has been noticed.
Version = tuple[int, tuple[tuple[int, int], ...]]
_PLAIN = (bool, int, float, str, type(None))


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
    known = _known.get(module)
    stamps = _stamps(module)
    return (0, stamps) if known is None else (known.edits, _without(stamps, known.own_stamps))


def is_as_it_was(module: nn.Module) -> bool:
    """Whether nothing has changed since `remember`, not even behind the back of the counts of writes."""
    known = _known.get(module)
    if known is None or _without(known.seen.stamps, known.own_stamps) != version(module)[1]:
        return False
    before, now = known.seen.contents, _contents(module)
    return _without(before, known.own_contents) == _without(now, known.own_contents)


def look(module: nn.Module) -> Seen:
    """The module as it is now."""
    return Seen(_stamps(module), _contents(module))


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


def tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, then buffers; many times in a call, so without the names that torch makes for each."""
    modules = _modules(module)
    for part in modules:
        yield from (tensor for tensor in part._parameters.values() if tensor is not None)
    for part in modules:
        yield from (tensor for tensor in part._buffers.values() if tensor is not None)


def _modules(module: nn.Module) -> list[nn.Module]:
    found, seen = [module], {module}
    for part in found:
        for child in part._modules.values():
            if child is not None and child not in seen:  # modules may be shared, or hold each other
                seen.add(child)
                found.append(child)
    return found


def _stamps(module: nn.Module) -> tuple[tuple[int, int], ...]:
    # Inference tensors have no count of writes, and nothing outside inference mode writes to them.
    return tuple([(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors(module)])


def _contents(module: nn.Module) -> tuple[Any, ...]:
    entries: list[Any] = []
    for part in _modules(module):
        entries.append((type(part), *(id(child) for child in part._modules.values())))
        entries += [
            (name, _value(value)) for name, value in list(vars(part).items()) if not name.startswith("_")
        ]
    return (*entries, *_totals(list(tensors(module))))


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
    return value if isinstance(value, _PLAIN) else None


def _totals(all_tensors: list[Tensor]) -> list[Any]:
    """Sums, fetched together: a GPU is waited for once."""
    totals: list[Any] = [None] * len(all_tensors)
    alike: defaultdict[tuple[torch.dtype, torch.device], list[tuple[int, Tensor]]] = defaultdict(list)
    with torch.no_grad():
        for i, tensor in enumerate(all_tensors):
            with suppress(RuntimeError, NotImplementedError):  # packed or quantised, say: taken for constant
                total = tensor.sum()
                alike[total.dtype, total.device].append((i, total))
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
