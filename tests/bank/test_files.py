import errno
import os
import subprocess
import sys
from pathlib import Path

import polarity_sampling as ps
import pytest
from polarity_sampling.bank.files import sole_builder, storage_errors, write_atomically


def test_write_replaces_whole_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(ps.BankError, match=r"writing .*file failed \(No space left.*free some space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_write_leaves_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    script = (
        "import resource, sys, pathlib, polarity_sampling.bank.files as f\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "f.write_atomically(pathlib.Path(sys.argv[1]), b'x' * 5000)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "BankError" in done.stderr
    assert "the disk is full" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "choose another path"),
        (errno.EACCES, "mend the permissions"),
        (errno.EIO, "check the path"),
    ],
)
def test_advice(code: int, advice: str) -> None:
    with pytest.raises(ps.BankError, match=advice) as caught, storage_errors("writing x"):
        raise OSError(code, os.strerror(code))
    assert isinstance(caught.value.__cause__, OSError)
    assert os.strerror(code) in str(caught.value)


def test_builder_clears_leftovers_and_its_lock_is_free_again(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "bank"
    with sole_builder(directory):
        (directory / ".shard-000000.parquet.123.tmp").write_bytes(b"part")
        (directory / "mine.tmp").write_bytes(b"")
        with pytest.raises(ps.BankError, match=f"pid {os.getpid()}"), sole_builder(directory):
            pass
    with sole_builder(directory):
        names = sorted(path.name for path in directory.iterdir())
    assert names == [".lock", "mine.tmp"]
