"""Building a bank: fill in the shards that are missing, in order, until they or the time run out."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from polarity_sampling.bank.columns import Columns
from polarity_sampling.bank.files import sole_builder
from polarity_sampling.bank.metadata import FILE, BankMetadata, Environment
from polarity_sampling.bank.progress import row_progress
from polarity_sampling.bank.shards import complete_rows, compute_rows, read_shard, stored_rows, write_shard
from polarity_sampling.errors import BankError, PolarityWarning
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian import jacobian
from polarity_sampling.laws import Law
from polarity_sampling.memory import parse_memory
from polarity_sampling.volume import auto_top_k
from polarity_sampling.volume.latents import nonzero, why_no_more
from polarity_sampling.volume.log_volume import batch_size as log_volume_batch
from polarity_sampling.volume.svd import check_tol
from polarity_sampling.whole import checked_count, checked_seed, whole

# Batches are computed whole: a larger one would make small banks, and resuming, dearer than need be.
MOST_BATCH = 256
# A GPU is idle in front of as few.
MOST_GPU_BATCH = 1024


@dataclass
class Budget:
    """How long to build: once min_rows rows are there, no shard is begun that would end after max_seconds."""

    max_seconds: float | None
    min_rows: int
    started: float = dataclasses.field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.max_seconds is not None and not self.max_seconds >= 0.0:
            raise ValueError(f"max_seconds={self.max_seconds}: expected a time, or None for no limit")
        if self.min_rows < 1:
            raise ValueError(f"min_rows={self.min_rows}: expected at least 1")

    def allows(self, rows: int, next_seconds: float) -> bool:
        """Whether to begin a shard expected to take next_seconds, with `rows` rows there already."""
        if self.max_seconds is None or rows < self.min_rows:
            return True
        return time.monotonic() - self.started + next_seconds <= self.max_seconds

    def foresee(self, before: int, rows: int, n: int) -> int:
        """How many of n rows there will be, going on as since `before` of them were there."""
        if self.max_seconds is None:
            return n
        elapsed = time.monotonic() - self.started
        foreseen = before + int((rows - before) * max(1.0, self.max_seconds / elapsed))
        return min(n, max(self.min_rows, foreseen))


def settle(
    generator: Generator,
    n: int,
    top_k: str | int | None,
    seed: int,
    *,
    proposal: str | Law | None,
    class_prior: Sequence[float] | None,
    tol: float,
    batch_size: int | None,
    shard_rows: int,
    store_latents: bool,
    memory: str | int,
) -> BankMetadata:
    """Check the arguments of Bank.build and make metadata of them; top_k="auto" is left open, as 0."""
    generator.check()
    n, shard_rows, seed = checked_count("n", n), checked_count("shard_rows", shard_rows), checked_seed(seed)
    if batch_size is None:
        most = MOST_BATCH if generator.device.type == "cpu" else MOST_GPU_BATCH
        batch_size = math.gcd(shard_rows, most, suggested_batch(generator, memory))
    batch_size = checked_count("batch_size", batch_size)
    if shard_rows % batch_size:
        raise ValueError(f"shard_rows={shard_rows}: expected a multiple of batch_size={batch_size}")
    check_tol(tol)
    most = nonzero(generator)
    expected = f'expected "auto", None (all) or 1 to {most}{why_no_more(generator, most)}'
    if top_k is None:
        top_k = most
    elif top_k == "auto":
        top_k = 0
    elif isinstance(top_k, str):
        raise ValueError(f"top_k={top_k!r}: {expected}")
    elif not 1 <= (top_k := whole("top_k", top_k)) <= most:
        raise ValueError(f"top_k={top_k}: {expected}")
    return BankMetadata(
        model=generator.name,
        weight_hash=generator.weight_hash(),
        latent_dim=generator.latent_dim,
        directions=most,
        base=generator.base,
        law=generator.base if proposal is None else Law.of(proposal),
        num_classes=generator.num_classes,
        class_prior=settle_prior(generator.num_classes, class_prior),
        seed=seed,
        n=n,
        top_k=top_k,
        top_k_auto=top_k == 0,
        tol=float(tol),
        batch_size=batch_size,
        shard_rows=shard_rows,
        store_latents=bool(store_latents),
        memory=parse_memory(memory),
        origin="build",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environments=(),
    )


def suggested_batch(generator: Generator, memory: str | int) -> int:
    """Latents that log_volume handles together within the budget; depends on shapes alone."""
    z = generator.base.draw(0, torch.zeros(1, dtype=torch.int64), generator.latent_dim)
    operator = jacobian(generator, z, None if generator.num_classes is None else 0, memory=memory)
    _, dim_out, dim_in = operator.shape
    return log_volume_batch(dim_out, dim_in, parse_memory(memory), operator.device)


def settle_prior(num_classes: int | None, prior: Sequence[float] | None) -> tuple[float, ...] | None:
    """The class prior, normalised; uniform if not given, None for an unconditional generator."""
    if num_classes is None:
        if prior is not None:
            raise ValueError("class_prior is given, but the generator has no classes: give it num_classes")
        return None
    if prior is None:
        return (1.0 / num_classes,) * num_classes
    try:
        values = [float(p) for p in prior]
    except (TypeError, ValueError):
        raise TypeError(
            f"class_prior is {prior!r}; expected {num_classes} numbers, the probability of each class"
        ) from None
    total = math.fsum(values)
    if len(values) != num_classes or min(values) < 0.0 or not 0.0 < total < math.inf:
        raise ValueError(
            f"class_prior={values}: expected {num_classes} probabilities, none negative, not all zero"
        )
    return tuple(p / total for p in values)


def build_in_memory(
    generator: Generator, metadata: BankMetadata, budget: Budget, progress: bool
) -> tuple[BankMetadata, Columns]:
    """Compute a whole bank, or what the budget allows of it, without touching the disk."""
    parts: list[Columns] = []
    metadata = _resolve_top_k(generator, metadata)
    metadata = dataclasses.replace(metadata, environments=(Environment.current(generator.device),))

    def save(_: int, columns: Columns) -> None:
        parts.append(columns)

    rows = _fill(generator, metadata, metadata.n, {}, save, budget, progress)
    return dataclasses.replace(metadata, n=rows), Columns.concat(parts)


def build_on_disk(
    generator: Generator, metadata: BankMetadata, path: Path, budget: Budget, progress: bool
) -> None:
    """Make the directory hold the bank: start it, go on with it, extend it, or find it finished.

    Raises BankError when the directory holds another bank, or a file fails.
    """
    n = metadata.n
    with sole_builder(path):
        if (path / FILE).exists():
            metadata = _continue(path, metadata, generator)
        else:
            require_no_shards(path)
            metadata = _resolve_top_k(generator, metadata)
            metadata.write(path)  # before any shard: an interrupted build can tell what it was
        stored = stored_rows(path, metadata)
        metadata = _set_n(path, metadata, max(n, complete_rows(metadata, stored)))
        if complete_rows(metadata, stored) >= n:
            return
        for index in stored:
            read_shard(path, metadata, index)  # refuse a damaged bank now, not after hours of work
        metadata = _record_environment(path, metadata, Environment.current(generator.device))

        def save(index: int, columns: Columns) -> None:
            kept = int(columns.row_id[0]) - index * metadata.shard_rows
            if kept:
                columns = Columns.concat([read_shard(path, metadata, index)[:kept], columns])
            write_shard(path, metadata, index, columns.to_table())

        try:
            rows = _fill(generator, metadata, n, stored, save, budget, progress)
        except KeyboardInterrupt:
            rows = complete_rows(metadata, stored_rows(path, metadata))
            raise KeyboardInterrupt(
                f"stopped with {rows} of {n} rows in {path}; the same call resumes there"
            ) from None
        _set_n(path, metadata, rows)


def _fill(
    generator: Generator,
    metadata: BankMetadata,
    n: int,
    stored: dict[int, int],
    save: Callable[[int, Columns], None],
    budget: Budget,
    progress: bool,
) -> int:
    """Compute what is missing of rows 0 .. n - 1, shard by shard; returns m: rows 0 .. m - 1 are there."""
    size, batch = metadata.shard_rows, metadata.batch_size
    shards = range(math.ceil(n / size))

    def reusable(index: int) -> int:
        have, wanted = stored.get(index, 0), min(size, n - index * size)
        return wanted if have >= wanted else have // batch * batch  # a cut batch is computed anew

    done = sum(reusable(index) for index in shards)
    computed, began = 0, time.monotonic()
    with row_progress(done, n, progress, lambda rows: budget.foresee(done, rows, n)) as advance:
        for index in shards:
            start, stop = index * size + reusable(index), min((index + 1) * size, n)
            if start == stop:
                continue
            pace = (time.monotonic() - began) / computed if computed else 0.0
            there = index * size + stored.get(index, 0)
            if not budget.allows(there, pace * (stop - start)):
                return there
            save(index, compute_rows(generator, metadata, start, stop, advance))
            computed += stop - start
    return n


def _continue(path: Path, wanted: BankMetadata, generator: Generator) -> BankMetadata:
    """The metadata of the bank already there, once it is the wanted one."""
    found = BankMetadata.read(path)
    if wanted.top_k_auto and found.top_k_auto:
        wanted = dataclasses.replace(wanted, top_k=found.top_k)
    differences = found.differences(_resolve_top_k(generator, wanted))
    if differences:
        raise BankError(
            f"{path} holds a bank of other settings ({'; '.join(differences)}). Choose another path, pass "
            "the settings it was built with, or delete the directory to build anew"
        )
    return found


def _resolve_top_k(generator: Generator, metadata: BankMetadata) -> BankMetadata:
    if metadata.top_k:
        return metadata
    return dataclasses.replace(metadata, top_k=auto_top_k(generator, memory=metadata.memory))


def _set_n(path: Path, metadata: BankMetadata, n: int) -> BankMetadata:
    if n != metadata.n:
        metadata = dataclasses.replace(metadata, n=n)
        metadata.write(path)
    return metadata


def _record_environment(path: Path, metadata: BankMetadata, now: Environment) -> BankMetadata:
    if metadata.environments and metadata.environments[-1] == now:
        return metadata
    if metadata.environments:
        before = metadata.environments[-1]
        changes = [
            f"{field.name} {getattr(before, field.name)} before, {getattr(now, field.name)} now"
            for field in dataclasses.fields(now)
            if getattr(before, field.name) != getattr(now, field.name)
        ]
        warnings.warn(
            f"{path} goes on in another environment ({'; '.join(changes)}): its rows may differ in the last "
            "bits from a bank built in one go. Recorded in its metadata",
            PolarityWarning,
            stacklevel=4,
        )
    metadata = dataclasses.replace(metadata, environments=(*metadata.environments, now))
    metadata.write(path)
    return metadata


def require_no_shards(path: Path) -> None:
    """Refuse a directory that holds somebody else's Parquet files."""
    foreign = sorted(path.glob("*.parquet"))
    if foreign:
        raise BankError(
            f"{path} has no {FILE} but holds {len(foreign)} Parquet files, such as {foreign[0].name}: "
            "choose an empty or new directory"
        )
