"""Files that are there whole or not at all, and one builder at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polarity_sampling.errors import BankError

_TEMPORARY = ".tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turn an OSError into a BankError that says what to do; what was written before stays valid."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            advice = "the disk is full: free some space and make the same call, it goes on where it stopped"
        elif error.errno in _READ_ONLY:
            advice = "no permission to write there: choose another path or mend the permissions"
        else:
            advice = "check the path"
        raise BankError(f"{action} failed ({error.strerror or error}): {advice}") from error


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a crash at any moment leaves the old file or the new one, never a part.

    Raises BankError when the disk is full or the path is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    with storage_errors(f"writing {path}"):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # the new name itself
        finally:
            os.close(directory)


@contextmanager
def sole_builder(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, making the directory if need be, and clear what a killed builder left.

    The lock is the kernel's (flock): it goes with its process, however that ends, so none is ever stale.
    Raises BankError when another process holds it.
    """
    import fcntl

    with storage_errors(f"creating {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 32, 0).decode(errors="replace") or "unknown"
            raise BankError(
                f"{directory} is being built by another process (pid {owner}): wait for it or stop it"
            ) from error
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        for leftover in directory.glob(f".*{_TEMPORARY}"):
            leftover.unlink()
        yield
    finally:
        os.close(lock)
