"""Memory budgets: "1GiB" or a number of bytes."""

import re
from functools import lru_cache

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_memory(memory: str | int) -> int:
    """Bytes of a budget such as "512MiB", "2GB" or 1_000_000.

    Raises:
        ValueError: not a size, or not positive.
    """
    size = _bytes(memory) if isinstance(memory, str) else memory
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"memory is {memory!r}; expected bytes or a size such as '512MiB' or '2GB'")
    return size


@lru_cache  # a default is read at every call
def _bytes(memory: str) -> int | None:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", memory)
    if match is None or match[2].upper() not in _UNITS:
        return None
    return int(float(match[1]) * _UNITS[match[2].upper()])
