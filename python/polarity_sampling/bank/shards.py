"""Shards: which rows a file holds, how they are computed, written and read back.

`compute_shard` is a function of (generator, metadata, index) alone, and writing is separate, so shards
may be computed anywhere, in any order.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.bank.columns import Columns, latent_check
from polarity_sampling.bank.files import storage_errors, write_atomically
from polarity_sampling.bank.metadata import BankMetadata
from polarity_sampling.errors import BankError
from polarity_sampling.generator import Generator
from polarity_sampling.volume.log_volume import log_volume

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"shard-(\d{6,})\.parquet")
_KEY = b"polarity_sampling"
_AGAIN = "Delete that file and build again with the same settings: only its rows are recomputed"


def shard_path(directory: Path, index: int) -> Path:
    """The file of shard `index`, which holds rows index · shard_rows onwards."""
    return directory / f"shard-{index:06d}.parquet"


def draw_labels(metadata: BankMetadata, rows: Tensor) -> Tensor | None:
    """Labels int64 [n] of consecutive rows, each a function of (seed, row) alone; None if unconditional."""
    if metadata.class_prior is None:
        return None
    # A seed of its own: latents may use the uniform stream of the bank's seed.
    digest = hashlib.sha256(f"labels of {metadata.seed}".encode()).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    u = polarity_ext.uniform(seed, int(rows[0]), (rows.numel(),), dtype=torch.float64, device="cpu")
    cumulative = np.cumsum(metadata.class_prior)
    # `right`: a class of probability zero covers no u. The last edge is 1 and needs no comparison.
    edges = torch.from_numpy(cumulative[:-1] / cumulative[-1])
    return torch.searchsorted(edges, u, right=True)


def compute_rows(
    generator: Generator,
    metadata: BankMetadata,
    start: int,
    stop: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> Columns:
    """Rows start .. stop - 1 of the bank; start is a multiple of batch_size.

    The last batch is computed whole even if `stop` cuts it: what a row holds, to the last bit, never
    depends on how many rows were asked for.

    Args:
        generator: the generator; its weights decide, with metadata, every bit.
        metadata: settings.
        start, stop: row ids.
        advance: called with the number of rows just done.
    """
    batches = []
    for first in range(start, stop, metadata.batch_size):
        rows = torch.arange(first, first + metadata.batch_size, device="cpu")
        z = metadata.law.draw(metadata.seed, rows, metadata.latent_dim)
        label = draw_labels(metadata, rows)
        volume = log_volume(
            generator,
            z.to(generator.device, generator.dtype),
            None if label is None else label.to(generator.device),
            top_k=metadata.top_k,
            tol=metadata.tol,
            memory=metadata.memory,
        )
        batch = Columns(
            row_id=rows,
            singular_values=volume.singular_values.cpu(),
            log_volume=volume.value.cpu(),
            error=volume.error.cpu(),
            rank=volume.rank.cpu(),
            floor=volume.floor.cpu(),
            eta=volume.eta.cpu(),
            delta=volume.delta.cpu(),
            latent_check=latent_check(z),
            label=label,
            latent=z if metadata.store_latents else None,
        )
        keep = min(metadata.batch_size, stop - first)
        batches.append(batch[:keep])
        advance(keep)
    return Columns.concat(batches)


def compute_shard(generator: Generator, metadata: BankMetadata, index: int) -> pa.Table:
    """Shard `index` of a bank of metadata.n rows as an Arrow table: a pure function."""
    start = index * metadata.shard_rows
    stop = min(start + metadata.shard_rows, metadata.n)
    return compute_rows(generator, metadata, start, stop).to_table()


def write_shard(directory: Path, metadata: BankMetadata, index: int, table: pa.Table) -> None:
    """Write a shard atomically, with the bank's fingerprint and a SHA-256 of its values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    seal = {"bank": metadata.fingerprint(), "shard": index, "sha256": _digest(Columns.from_table(table))}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({_KEY: json.dumps(seal)}),
        sink,
        compression="zstd",
        use_dictionary=False,  # almost all values are distinct
        write_statistics=False,
    )
    write_atomically(shard_path(directory, index), memoryview(sink.getvalue()))


def read_shard(directory: Path, metadata: BankMetadata, index: int) -> Columns:
    """Read a shard and verify it.

    Raises BankError when it is truncated, edited, misplaced or another bank's.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = shard_path(directory, index)
    with storage_errors(f"reading {path}"):
        content = path.read_bytes()
    table = _parse(path, lambda: pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False))
    seal = _seal(path, table.schema.metadata)
    if seal["bank"] != metadata.fingerprint():
        raise BankError(
            f"{path} is shard {seal['shard']} of another bank, or this bank's metadata was edited: found "
            f"fingerprint {seal['bank']}, expected shard {index} of {metadata.fingerprint()}. "
            "Move files that are not this bank's out of the directory"
        )
    if seal["shard"] != index:
        raise BankError(
            f"{path} was renamed or copied: found shard {seal['shard']} of this bank, expected {index}. "
            + _AGAIN
        )
    try:
        columns = Columns.from_table(table)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise BankError(f"{path} was edited: its columns are not a bank's ({error}). {_AGAIN}") from error
    if seal["sha256"] != _digest(columns):
        raise BankError(f"{path} was edited or damaged: its values do not match their checksum. {_AGAIN}")
    return columns


def stored_rows(directory: Path, metadata: BankMetadata) -> dict[int, int]:
    """How many rows each shard there holds, from the files themselves; a missing shard has no entry.

    Only Parquet footers are read. Raises BankError for a Parquet file that is not one of the bank's.
    """
    import pyarrow.parquet as pq

    counts = {}
    for path in sorted(directory.glob("*.parquet")):
        match = _NAME.fullmatch(path.name)
        index = int(match[1]) if match else -1
        if path != shard_path(directory, index):
            raise BankError(f"{path} is no shard of this bank: move it out of the directory")
        footer = _parse(path, functools.partial(pq.read_metadata, path))
        _seal(path, footer.metadata)
        if not 0 < footer.num_rows <= metadata.shard_rows:
            raise BankError(f"{path} holds {footer.num_rows} rows, expected 1 to {metadata.shard_rows}")
        counts[index] = footer.num_rows
    return counts


def complete_rows(metadata: BankMetadata, stored: dict[int, int]) -> int:
    """Rows 0 .. m - 1 are all there: m."""
    rows = 0
    for index in range(len(stored)):
        count = stored.get(index, 0)
        rows += count
        if count < metadata.shard_rows:
            break
    return rows


def _parse(path: Path, read: Callable[[], Any]) -> Any:
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, OSError) as error:  # Arrow reports a damaged file as either
        raise BankError(f"{path} is truncated or not a Parquet file ({error}). {_AGAIN}") from error


def _seal(path: Path, metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    try:
        seal = json.loads((metadata or {})[_KEY])
        return {name: seal[name] for name in ("bank", "shard", "sha256")}
    except (KeyError, TypeError, ValueError) as error:
        raise BankError(
            f"{path} was not written by this library: move it out of the directory, and build again with the "
            "same settings if it replaced a shard"
        ) from error


def _digest(columns: Columns) -> str:
    digest = hashlib.sha256()
    for name, values in columns.present().items():
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()
