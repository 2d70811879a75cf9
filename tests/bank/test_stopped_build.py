"""Builds that stop early: by a time budget, an interrupt, a kill, or because another one is at work."""

import os
import subprocess
import sys
from pathlib import Path

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.bank import build
from polarity_sampling.bank.files import sole_builder

from tests.bank.conftest import SMALL, SameRows, Watch


def test_time_budget_gives_whole_shards_and_goes_on_later(
    mlp: ps.Generator, tmp_path: Path, same_rows: SameRows
) -> None:
    bank = ps.Bank.build(mlp, n=200, path=tmp_path, max_seconds=0.0, min_rows=40, **SMALL)
    assert len(bank) == bank.metadata.n == 64
    assert same_rows(ps.Bank.open(tmp_path, mlp), bank)
    assert same_rows(ps.Bank.build(mlp, n=200, path=tmp_path, **SMALL), ps.Bank.build(mlp, n=200, **SMALL))


def test_time_budget_in_memory(mlp: ps.Generator) -> None:
    assert len(ps.Bank.build(mlp, n=200, max_seconds=0.0, **SMALL)) == 32
    assert len(ps.Bank.build(mlp, n=50, max_seconds=3600.0, **SMALL)) == 50
    assert len(ps.Bank.build(mlp, n=50, max_seconds=0.0, min_rows=1000, **SMALL)) == 50


def test_time_budget_foresees_the_next_shard() -> None:
    budget = build.Budget(max_seconds=100.0, min_rows=10)
    assert budget.allows(rows=9, next_seconds=1000.0)
    assert budget.allows(rows=10, next_seconds=50.0)
    assert not budget.allows(rows=10, next_seconds=101.0)
    assert build.Budget(None, 10).allows(rows=10, next_seconds=1e9)


def test_interrupt_says_how_to_resume(
    mlp: ps.Generator, tmp_path: Path, same_rows: SameRows, watch: Watch
) -> None:
    pending = [KeyboardInterrupt()]

    def interrupt(calls: int) -> None:
        if calls == 6 and pending:
            raise pending.pop()

    watch(interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"stopped with 32 of 100 rows in .*; the same call resumes"):
        ps.Bank.build(mlp, n=100, path=tmp_path, **SMALL)
    resumed = ps.Bank.build(mlp, n=100, path=tmp_path, **SMALL)
    assert same_rows(resumed, ps.Bank.build(mlp, n=100, **SMALL))


# One process imports torch once, and a child of it for every moment builds until it kills itself there.
KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
import polarity_sampling as ps

def killed_at_replace(at, after, path):
    real, seen = os.replace, 0
    def replace(*args):
        nonlocal seen
        seen += 1
        if seen == at:
            if after:
                real(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args)
    os.replace = replace
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6))
    ps.Bank.build(module, n=100, path=path, top_k=3, batch_size=8, shard_rows=32, progress=False)

for path, at, after in [("a", 1, False), ("b", 5, False), ("c", 5, True)]:
    child = os.fork()
    if child == 0:
        killed_at_replace(at, after, path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (path, status)
"""


def test_kill_9_then_resume_equals_an_uninterrupted_build(
    mlp: ps.Generator, tmp_path: Path, same_rows: SameRows
) -> None:
    script = [sys.executable, "-c", KILLED]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = {
        bank: (len(list((tmp_path / bank).glob("shard-*"))), len(list((tmp_path / bank).glob(".*.tmp"))))
        for bank in "abc"
    }
    # While metadata.json is put in place; while the third shard is (metadata.json came twice); after it was.
    assert left == {"a": (0, 1), "b": (2, 1), "c": (3, 0)}

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = ps.Bank.build(mlp.module, n=100, path=tmp_path / "whole", **SMALL)
        resumed = {bank: ps.Bank.build(mlp.module, n=100, path=tmp_path / bank, **SMALL) for bank in "abc"}
    finally:
        torch.set_num_threads(threads)
    files = {file.name: file.read_bytes() for file in (tmp_path / "whole").glob("shard-*")}
    for name, bank in resumed.items():
        assert same_rows(bank, whole)
        assert list((tmp_path / name).glob(".*.tmp")) == []
        assert files == {file.name: file.read_bytes() for file in (tmp_path / name).glob("shard-*")}


def test_one_builder_at_a_time(mlp: ps.Generator, tmp_path: Path) -> None:
    with (
        sole_builder(tmp_path),
        pytest.raises(ps.BankError, match=f"being built by another process.*{os.getpid()}"),
    ):
        ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL)
    assert len(ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL)) == 8
