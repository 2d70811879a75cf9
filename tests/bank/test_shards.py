import shutil
from pathlib import Path

import polarity_sampling as ps
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polarity_sampling.bank.columns import Columns
from polarity_sampling.bank.metadata import BankMetadata
from polarity_sampling.bank.shards import (
    complete_rows,
    compute_rows,
    compute_shard,
    draw_labels,
    read_shard,
    shard_path,
    stored_rows,
    write_shard,
)

from tests.bank.conftest import make_mlp

N = 80  # shards of 32, 32 and 16 rows


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "bank"
    ps.Bank.build(make_mlp(), n=N, path=path, top_k=3, batch_size=8, shard_rows=32, progress=False)
    return path


@pytest.fixture
def bank(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil; its generator is `mlp`."""
    return Path(shutil.copytree(built, tmp_path / "bank"))


def columns_equal(a: Columns, b: Columns) -> bool:
    return a.to_table().equals(b.to_table())


# --- computing --------------------------------------------------------------------------------------


def test_compute_shard_is_what_a_build_writes(mlp: ps.Generator, bank: Path) -> None:
    metadata = BankMetadata.read(bank)
    for index, rows in [(2, 16), (0, 32), (1, 32)]:  # in any order
        table = compute_shard(mlp, metadata, index)
        assert table.num_rows == rows
        assert columns_equal(Columns.from_table(table), read_shard(bank, metadata, index))


def test_rows_computed_apart_are_the_same_rows(mlp: ps.Generator, bank: Path) -> None:
    metadata = BankMetadata.read(bank)
    apart = [compute_rows(mlp, metadata, start, stop) for start, stop in [(0, 8), (8, 32)]]
    assert columns_equal(Columns.concat(apart), read_shard(bank, metadata, 0))


def test_advance_counts_rows(mlp: ps.Generator, bank: Path) -> None:
    done: list[int] = []
    compute_rows(mlp, BankMetadata.read(bank), 8, 27, done.append)
    assert done == [8, 8, 3]


def test_shards_written_elsewhere_make_the_bank(mlp: ps.Generator, bank: Path, tmp_path: Path) -> None:
    metadata = BankMetadata.read(bank)
    other = tmp_path / "other"
    other.mkdir()
    metadata.write(other)
    for index in (2, 1, 0):
        write_shard(other, metadata, index, compute_shard(mlp, metadata, index))
        assert shard_path(other, index).read_bytes() == shard_path(bank, index).read_bytes()
    assert len(ps.Bank.open(other, mlp)) == N


# --- labels -----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**63 - 1), start=st.integers(0, 2**40), size=st.integers(1, 50))
@settings(max_examples=30, deadline=None)
def test_a_label_depends_on_seed_and_row_alone(seed: int, start: int, size: int) -> None:
    metadata = make_metadata(seed, (0.2, 0.0, 0.5, 0.3, 0.0))
    labels = draw_labels(metadata, torch.arange(start, start + size))
    assert labels is not None
    alone = [int(draw_labels(metadata, torch.tensor([row]))[0]) for row in range(start, start + size)]  # type: ignore[index]
    assert labels.tolist() == alone
    assert set(alone) <= {0, 2, 3}


def test_labels_are_independent_of_latents_and_follow_the_prior() -> None:
    prior = (0.2, 0.0, 0.5, 0.3)
    labels = draw_labels(make_metadata(7, prior), torch.arange(20_000))
    assert labels is not None
    shares = torch.bincount(labels, minlength=4).double() / 20_000
    for share, p in zip(shares.tolist(), prior, strict=True):
        assert abs(share - p) <= 5 * (p * (1 - p) / 20_000) ** 0.5
    for law in (ps.Uniform(), ps.TruncatedNormal(2.0)):  # laws that read the uniform streams
        z = law.draw(7, torch.arange(20_000), 1)[:, 0].double()
        correlation = torch.corrcoef(torch.stack([z, labels.double()]))[0, 1]
        assert abs(float(correlation)) < 5 / 20_000**0.5


def make_metadata(seed: int, prior: tuple[float, ...]) -> BankMetadata:
    return BankMetadata(
        model="", weight_hash="", latent_dim=1, directions=1, base=ps.Normal(), law=ps.Normal(),
        num_classes=len(prior), class_prior=prior, seed=seed, n=1, top_k=1, top_k_auto=False, tol=0.01,
        batch_size=1, shard_rows=1, store_latents=False, memory=1, origin="build", created="",
        environments=(),
    )  # fmt: skip


# --- files that are not what they should be ---------------------------------------------------------


def refused(bank: Path, mlp: ps.Generator, words: str) -> None:
    """Open refuses, and so does a build that would go on there; nothing there is touched."""
    before = {path: path.read_bytes() for path in bank.glob("*.*") if path.name != ".lock"}
    with pytest.raises(ps.BankError, match=words):
        ps.Bank.open(bank)
    with pytest.raises(ps.BankError, match=words):
        ps.Bank.build(mlp, n=200, path=bank, top_k=3, batch_size=8, shard_rows=32, progress=False)
    after = {path: path.read_bytes() for path in bank.glob("*.*") if path.name != ".lock"}
    metadata = bank / "metadata.json"
    before.pop(metadata)
    after.pop(metadata)
    assert before == after


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.99])
def test_truncated_shard(bank: Path, mlp: ps.Generator, part: float) -> None:
    path = shard_path(bank, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    refused(
        bank, mlp, r"shard-000001\.parquet is truncated or not a Parquet file.*only its rows are recomputed"
    )


def test_flipped_bytes(bank: Path) -> None:
    """No flipped byte goes through: it breaks the file, or the checksum, or nothing that is read."""
    path = shard_path(bank, 0)
    content = path.read_bytes()
    metadata = BankMetadata.read(bank)
    original = read_shard(bank, metadata, 0)
    refusals = 0
    for position in range(4, len(content), max(1, len(content) // 150)):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        try:
            assert columns_equal(read_shard(bank, metadata, 0), original)
        except ps.BankError:
            refusals += 1
    assert refusals > 75


@pytest.mark.parametrize("column", ["log_volume", "error", "rank", "row_id", "latent_check", "eta"])
def test_edited_value(bank: Path, mlp: ps.Generator, column: str) -> None:
    path = shard_path(bank, 1)
    table = pq.read_table(path)
    position = table.column_names.index(column)
    values = table[column].to_pylist()
    values[3] += 1
    edited = table.set_column(position, table.schema.field(position), [values])
    assert edited.schema.metadata == table.schema.metadata
    pq.write_table(edited, path)
    refused(
        bank,
        mlp,
        r"shard-000001\.parquet was edited or damaged.*Delete that file and build again",
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda table: table.slice(0, 31),
        lambda table: table.take(pa.array([1, 0, *range(2, 32)])),
        lambda table: table.append_column("extra", [list(range(32))]),
        lambda table: table.drop_columns(["error"]),
        lambda table: table.drop_columns(["error"]).append_column(
            "error", pc.cast(table["error"], pa.float32())
        ),
        lambda table: table.set_column(0, "row_id", [[None] * 32]),
        lambda table: table.set_column(0, "row_id", [["a"] * 32]),
    ],
)
def test_edited_shape(bank: Path, mlp: ps.Generator, edit: object) -> None:
    path = shard_path(bank, 0)
    table = pq.read_table(path)
    pq.write_table(edit(table), path)  # type: ignore[operator]
    with pytest.raises(ps.BankError, match=r"was edited|incomplete"):
        ps.Bank.open(bank)


def test_rewritten_by_another_tool(bank: Path, mlp: ps.Generator) -> None:
    path = shard_path(bank, 1)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    refused(bank, mlp, "was not written by this library")


@pytest.mark.parametrize(
    "name", ["table.parquet", "shard-000001 (copy).parquet", "shard-1.parquet", "shard-0000001.parquet"]
)
def test_foreign_parquet_file(bank: Path, mlp: ps.Generator, name: str) -> None:
    pq.write_table(pa.table({"x": [1]}), bank / name)
    refused(bank, mlp, "is no shard of this bank: move it out")


def test_other_files_are_left_alone(bank: Path) -> None:
    (bank / "notes.txt").write_text("mine")
    assert len(ps.Bank.open(bank)) == N
    assert (bank / "notes.txt").read_text() == "mine"


def test_shard_of_another_bank(bank: Path, mlp: ps.Generator, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ps.Bank.build(mlp, n=N, path=other, seed=1, top_k=3, batch_size=8, shard_rows=32, progress=False)
    shutil.copy(shard_path(other, 1), shard_path(bank, 1))
    refused(bank, mlp, "shard 1 of another bank")


def test_shard_in_another_place(bank: Path, mlp: ps.Generator) -> None:
    shutil.copy(shard_path(bank, 0), shard_path(bank, 1))
    refused(bank, mlp, "was renamed or copied: found shard 0 of this bank, expected 1. Delete that file")


def test_advice_mends_a_damaged_bank(bank: Path, mlp: ps.Generator, computed: list[int]) -> None:
    whole = read_shard(bank, BankMetadata.read(bank), 1)
    shard_path(bank, 1).write_bytes(b"rubbish")
    shard_path(bank, 1).unlink()
    ps.Bank.build(mlp, n=N, path=bank, top_k=3, batch_size=8, shard_rows=32, progress=False)
    assert len(computed) == 4
    assert columns_equal(read_shard(bank, BankMetadata.read(bank), 1), whole)


def test_what_is_there_comes_from_the_files(bank: Path) -> None:
    metadata = BankMetadata.read(bank)
    assert stored_rows(bank, metadata) == {0: 32, 1: 32, 2: 16}
    shard_path(bank, 0).unlink()
    assert stored_rows(bank, metadata) == {1: 32, 2: 16}


@pytest.mark.parametrize(
    ("stored", "rows"),
    [
        ({}, 0),
        ({0: 32, 1: 32, 2: 16}, 80),
        ({1: 32}, 0),
        ({0: 32, 2: 32}, 32),
        ({0: 8, 1: 32}, 8),
        ({0: 32}, 32),
    ],
)
def test_complete_rows(bank: Path, stored: dict[int, int], rows: int) -> None:
    assert complete_rows(BankMetadata.read(bank), stored) == rows
