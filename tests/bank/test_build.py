import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.bank import build
from polarity_sampling.bank.metadata import Environment

from tests.bank.conftest import SMALL, SameRows, Watch

LARGE = SMALL | {"batch_size": 32}


# --- what a bank holds ------------------------------------------------------------------------------


def test_rows_are_log_volumes_of_the_drawn_latents(mlp: ps.Generator, tmp_path: Path) -> None:
    bank = ps.Bank.build(mlp, n=70, path=tmp_path / "bank", seed=5, **SMALL)
    assert len(bank) == 70
    z = mlp.base.draw(5, torch.arange(70), 4)
    assert torch.equal(bank.latents(bank.row_ids), z)
    expected = ps.log_volume(mlp, z, top_k=3)
    torch.testing.assert_close(bank.singular_values, expected.singular_values, rtol=1e-6, atol=0.0)
    value, error = bank.log_volume()
    torch.testing.assert_close(value, expected.value, rtol=0.0, atol=1e-5)
    assert bool((error > 0.0).all())
    assert bool((error < 1e-2).all())
    assert bank.labels is None


def test_memory_and_disk_hold_the_same(mlp: ps.Generator, tmp_path: Path, same_rows: SameRows) -> None:
    on_disk = ps.Bank.build(mlp, n=70, path=tmp_path / "bank", **SMALL)
    in_memory = ps.Bank.build(mlp, n=70, **SMALL)
    assert same_rows(on_disk, in_memory)
    assert same_rows(on_disk, ps.Bank.open(tmp_path / "bank", mlp))
    assert dataclasses.replace(on_disk.metadata, created="") == dataclasses.replace(
        in_memory.metadata, created=""
    )


def test_a_row_does_not_depend_on_how_many_there_are(mlp: ps.Generator, same_rows: SameRows) -> None:
    long = ps.Bank.build(mlp, n=90, **SMALL)
    for n in (1, 7, 8, 33):
        assert same_rows(ps.Bank.build(mlp, n=n, **SMALL), long._head(n))


def test_proposal_is_drawn_from_and_recorded(mlp: ps.Generator, tmp_path: Path) -> None:
    bank = ps.Bank.build(mlp, n=20, path=tmp_path / "bank", proposal=ps.Ball(2.0), **SMALL)
    assert bank.law == ps.Ball(2.0)
    assert bank.base == ps.Normal()
    assert bool((bank.latents(bank.row_ids).norm(dim=1) <= 2.0001).all())


def test_labels_follow_the_prior_row_by_row(conditional: ps.Generator, tmp_path: Path) -> None:
    bank = ps.Bank.build(conditional, n=300, path=tmp_path / "bank", class_prior=[1, 0, 3], **LARGE)
    assert bank.labels is not None
    counts = torch.bincount(bank.labels, minlength=3)
    assert counts[1] == 0
    assert abs(int(counts[0]) - 75) < 5 * (300 * 0.25 * 0.75) ** 0.5
    assert bank.metadata.class_prior == (0.25, 0.0, 0.75)
    assert bank.num_classes == 3
    z = bank.latents(bank.row_ids)
    expected = ps.log_volume(conditional, z, bank.labels, top_k=3).value
    torch.testing.assert_close(bank.log_volume()[0], expected, rtol=0.0, atol=1e-5)

    uniform = ps.Bank.build(conditional, n=300, **LARGE)
    assert uniform.labels is not None
    assert int(torch.bincount(uniform.labels).min()) > 60
    other_seed = ps.Bank.build(conditional, n=300, seed=1, **LARGE)
    assert other_seed.labels is not None
    assert not torch.equal(uniform.labels, other_seed.labels)


def test_top_k_none_takes_all_values(mlp: ps.Generator) -> None:
    assert ps.Bank.build(mlp.module, n=2, top_k=None, progress=False).top_k == 4
    on_sphere = ps.Generator(mlp.module, base="sphere")
    assert ps.Bank.build(on_sphere, n=2, top_k=None, progress=False).top_k == 3


def test_top_k_auto_is_settled_once(
    mlp: ps.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = build.auto_top_k
    monkeypatch.setattr(build, "auto_top_k", lambda *a, **k: calls.append(1) or real(*a, **k))
    settings = SMALL | {"top_k": "auto"}
    first = ps.Bank.build(mlp, n=20, path=tmp_path / "bank", **settings)
    assert first.metadata.top_k_auto
    assert first.singular_values.shape == (20, first.top_k)
    ps.Bank.build(mlp, n=50, path=tmp_path / "bank", **settings)
    ps.Bank.build(mlp, n=50, path=tmp_path / "bank", **SMALL | {"top_k": first.top_k})
    assert len(calls) == 1


# --- wrong arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, "n=0: expected at least 1"),
        ({"shard_rows": 0}, "shard_rows=0: expected at least 1"),
        ({"proposal": "ball"}, "law='ball'"),
        ({"n": -3}, "n=-3"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"shard_rows": 12}, "shard_rows=12: expected a multiple of batch_size=8"),
        ({"seed": -1}, "seed=-1"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 5}, "1 to 4"),
        ({"top_k": "all"}, "top_k='all'"),
        ({"tol": 0.0}, "tol is 0.0"),
        ({"tol": float("nan")}, "tol is nan"),
        ({"memory": "much"}, "memory"),
        ({"class_prior": [0.5, 0.5]}, "class_prior"),
        ({"max_seconds": -1.0}, "max_seconds=-1.0"),
        ({"min_rows": 0}, "min_rows=0"),
    ],
)
def test_bad_arguments(mlp: ps.Generator, tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ps.Bank.build(mlp, path=tmp_path / "bank", **{"n": 8, **SMALL, **change})
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("name", ["n", "seed", "top_k", "batch_size", "shard_rows"])
@pytest.mark.parametrize("value", [8.0, True, "8"])
def test_whole_numbers(mlp: ps.Generator, tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{name}={value!r}: expected"):
        ps.Bank.build(mlp, path=tmp_path / "bank", **{"n": 8, **SMALL, name: value})
    assert not (tmp_path / "bank").exists()


def test_numbers_of_numpy(mlp: ps.Generator, tmp_path: Path, same_rows: SameRows) -> None:
    settings: dict[str, Any] = {"n": 20, "seed": 3, "top_k": 2, "batch_size": 4, "shard_rows": 8}
    expected = ps.Bank.build(mlp, **settings, progress=False)
    numpy = {name: np.int64(value) for name, value in settings.items()}
    bank = ps.Bank.build(mlp, path=tmp_path / "bank", **numpy, progress=False)
    assert same_rows(bank, expected)
    assert torch.equal(bank.log_volume(np.int64(1))[0], expected.log_volume(1)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("prior", [[1.0], [0.0, 0.0, 0.0], [1.0, -0.1, 0.1], [1.0, float("nan"), 0.0]])
def test_bad_class_prior(conditional: ps.Generator, prior: list[float]) -> None:
    with pytest.raises(ValueError, match="expected 3 probabilities"):
        ps.Bank.build(conditional, n=8, class_prior=prior, **SMALL)


@pytest.mark.parametrize("prior", ["abc", 3, [0.5, None, 0.5]], ids=str)
def test_a_class_prior_that_is_no_numbers(conditional: ps.Generator, prior: object) -> None:
    with pytest.raises(TypeError, match=r"class_prior is .*; expected 3 numbers"):
        ps.Bank.build(conditional, n=8, class_prior=prior, **SMALL)


# --- going on ---------------------------------------------------------------------------------------


def test_a_finished_bank_is_returned_at_once(
    mlp: ps.Generator, tmp_path: Path, computed: list[int], same_rows: SameRows
) -> None:
    bank = ps.Bank.build(mlp, n=70, path=tmp_path, **SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("[a-z]*")}
    computed.clear()
    assert same_rows(ps.Bank.build(mlp, n=70, path=tmp_path, **SMALL), bank)
    fewer = ps.Bank.build(mlp, n=40, path=tmp_path, **SMALL)
    assert computed == []
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("[a-z]*")}
    assert len(fewer) == fewer.metadata.n == 40
    assert same_rows(fewer, bank._head(40))
    assert len(ps.Bank.open(tmp_path)) == 70


def test_a_larger_n_extends(
    mlp: ps.Generator, tmp_path: Path, computed: list[int], same_rows: SameRows
) -> None:
    ps.Bank.build(mlp, n=45, path=tmp_path, **SMALL)  # the last batch is cut, the last shard short
    computed.clear()
    longer = ps.Bank.build(mlp, n=70, path=tmp_path, **SMALL)
    assert len(computed) == 4  # rows 40 .. 71: whole batches that were there are kept
    assert same_rows(longer, ps.Bank.build(mlp, n=70, **SMALL))


def test_progress_counts_every_row_once(
    mlp: ps.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[list[int]] = []

    @contextmanager
    def bar(done: int, total: int, *_: object) -> Iterator[Callable[[int], None]]:
        bars.append([total, done])
        yield bars[-1].append

    monkeypatch.setattr(build, "row_progress", bar)
    for n in (45, 70, 75):
        ps.Bank.build(mlp, n=n, path=tmp_path, **SMALL)
    assert [sum(bar[1:]) for bar in bars] == [45, 70, 75]
    assert [bar[1] for bar in bars] == [0, 40, 64]


def test_only_missing_shards_are_computed(
    mlp: ps.Generator, tmp_path: Path, computed: list[int], same_rows: SameRows
) -> None:
    bank = ps.Bank.build(mlp, n=128, path=tmp_path, **SMALL)
    (tmp_path / "shard-000001.parquet").unlink()
    with pytest.raises(ps.BankError, match=r"holds 32 of 128 rows.*n=32"):
        ps.Bank.open(tmp_path)
    computed.clear()
    again = ps.Bank.build(mlp, n=128, path=tmp_path, **SMALL)
    assert computed == [8] * 4
    assert same_rows(again, bank)


def test_settling_for_what_is_there(mlp: ps.Generator, tmp_path: Path, computed: list[int]) -> None:
    ps.Bank.build(mlp, n=96, path=tmp_path, **SMALL)
    (tmp_path / "shard-000002.parquet").unlink()
    computed.clear()
    assert len(ps.Bank.build(mlp, n=64, path=tmp_path, **SMALL)) == 64
    assert computed == []
    assert len(ps.Bank.open(tmp_path)) == 64


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 1}, "seed: found 0, expected 1"),
        ({"top_k": 2}, "top_k: found 3, expected 2"),
        ({"top_k": "auto"}, "top_k: found 3, expected 4"),
        ({"tol": 1e-3}, "tol"),
        ({"batch_size": 16}, "batch_size"),
        ({"shard_rows": 64}, "shard_rows"),
        ({"store_latents": True}, "store_latents"),
        ({"memory": "1MiB"}, "memory: found 1073741824, expected 1048576"),
        ({"proposal": ps.Ball(2.0)}, "law"),
    ],
)
def test_other_settings_are_refused(
    mlp: ps.Generator, tmp_path: Path, change: dict[str, object], field: str, same_rows: SameRows
) -> None:
    bank = ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL)
    with pytest.raises(ps.BankError, match=f"other settings.*{field}"):
        ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL | change)
    assert same_rows(ps.Bank.open(tmp_path), bank)


def test_other_weights_are_refused(mlp: ps.Generator, other_mlp: ps.Generator, tmp_path: Path) -> None:
    ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL)
    with pytest.raises(ps.BankError, match=r"weight_hash.*Choose another path"):
        ps.Bank.build(other_mlp, n=16, path=tmp_path, **SMALL)


def test_another_environment_is_recorded_and_warned_about(
    mlp: ps.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ps.Bank.build(mlp, n=32, path=tmp_path, **SMALL)
    elsewhere = dataclasses.replace(
        Environment.current(torch.device("cpu")), torch_version="2.10.0", threads=77
    )
    monkeypatch.setattr(Environment, "current", staticmethod(lambda device: elsewhere))
    with pytest.warns(
        ps.PolarityWarning, match=r"torch_version .* before, 2\.10\.0 now; threads .* before, 77 now"
    ):
        bank = ps.Bank.build(mlp, n=64, path=tmp_path, **SMALL)
    assert len(bank.metadata.environments) == 2
    assert bank.metadata.environments[1] == elsewhere


# --- disks ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which fails as a full disk does")
def test_full_disk_in_the_middle_of_a_build(
    mlp: ps.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_rows: SameRows, watch: Watch
) -> None:
    temporary = tmp_path / f".shard-000001.parquet.{os.getpid()}.tmp"
    watch(lambda calls: temporary.symlink_to("/dev/full") if calls == 5 else None)
    with pytest.raises(ps.BankError, match=r"No space left.*disk is full.*goes on where it stopped"):
        ps.Bank.build(mlp, n=100, path=tmp_path, **SMALL)
    assert not temporary.is_symlink()
    assert len(list(tmp_path.glob("shard-*"))) == 1
    resumed = ps.Bank.build(mlp, n=100, path=tmp_path, **SMALL)
    assert same_rows(resumed, ps.Bank.build(mlp, n=100, **SMALL))


def test_path_that_cannot_be_a_directory(mlp: ps.Generator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "bank"):
        with pytest.raises(ps.BankError, match=r"creating .* failed"):
            ps.Bank.build(mlp, n=8, path=path, **SMALL)


def test_read_only_path(mlp: ps.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)  # root may write anywhere, so a mode bit would not do
    with pytest.raises(ps.BankError, match=r"no permission to write there: choose another path"):
        ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL)


def test_directory_of_foreign_parquet_files(mlp: ps.Generator, tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"")
    with pytest.raises(ps.BankError, match=r"holds 1 Parquet files, such as table.parquet"):
        ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL)
    assert not (tmp_path / "metadata.json").exists()


def test_damaged_shard_stops_a_build_before_it_computes(
    mlp: ps.Generator, tmp_path: Path, computed: list[int]
) -> None:
    ps.Bank.build(mlp, n=64, path=tmp_path, **SMALL)
    shutil.copy(tmp_path / "shard-000000.parquet", tmp_path / "shard-000001.parquet")
    computed.clear()
    with pytest.raises(ps.BankError, match="found shard 0 of this bank, expected 1"):
        ps.Bank.build(mlp, n=128, path=tmp_path, **SMALL)
    assert computed == []


def test_metadata_says_everything(mlp: ps.Generator, tmp_path: Path) -> None:
    ps.Bank.build(mlp, n=8, path=tmp_path, **SMALL)
    data = json.loads((tmp_path / "metadata.json").read_text())
    assert data["weight_hash"] == mlp.weight_hash()
    assert data["environments"][0]["torch_version"] == torch.__version__
    assert data["environments"][0]["threads"] == torch.get_num_threads()
    assert {
        "model",
        "latent_dim",
        "base",
        "law",
        "seed",
        "n",
        "top_k",
        "tol",
        "created",
        "format",
    } <= data.keys()
