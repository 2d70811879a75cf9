"""Bank: latents with their singular values, the material every sampler reweights."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from polarity_sampling.bank.build import Budget, build_in_memory, build_on_disk, settle
from polarity_sampling.bank.columns import Columns, certify, latent_check
from polarity_sampling.bank.metadata import BankMetadata
from polarity_sampling.bank.shards import complete_rows, read_shard, stored_rows
from polarity_sampling.errors import BankError, PolarityWarning
from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law
from polarity_sampling.whole import whole


class Bank:
    """N latents of one generator, each with its leading singular values. Immutable once made.

    Row r is a function of (settings, r) alone: latents and labels come from counter-based streams at r,
    batches are aligned to row ids. So a bank may be interrupted, resumed, extended or cut without any row
    changing, and row ids are always 0 .. N - 1. Make one with `Bank.build`, `Bank.open` or
    `Bank.import_npz`.
    """

    def __init__(self, metadata: BankMetadata, columns: Columns) -> None:
        self._metadata = metadata
        self._columns = columns

    @classmethod
    def build(
        cls,
        generator: Generator | nn.Module,
        n: int = 20_000,
        path: str | Path | None = None,
        top_k: str | int | None = "auto",
        seed: int = 0,
        *,
        proposal: str | Law | None = None,
        class_prior: Sequence[float] | None = None,
        tol: float = 1e-2,
        batch_size: int | None = None,
        shard_rows: int = 1024,
        store_latents: bool = False,
        memory: str | int = "1GiB",
        progress: bool = True,
        max_seconds: float | None = None,
        min_rows: int = 1,
    ) -> Bank:
        """Compute the singular values of n latents; with a path, resume or extend what is there.

        A build that was stopped in any way, kill -9 included, is taken up again by the same call: the
        bank is then the one an uninterrupted build makes, bit for bit, given the same torch, thread count
        and machine (a change is recorded in the metadata and warned about). Over a finished bank the call
        returns at once; with a larger n it extends it, with a smaller one it returns the first n rows.

        Args:
            generator: a Generator, or a module whose latent dimension can be inferred.
            n: rows.
            path: directory of the bank (Parquet shards and metadata.json); None keeps it in memory.
            top_k: singular values per row: a number, None for all, "auto" for the largest number that
                stays above the noise floor for 99% of calibration latents.
            seed: stream of latents and labels.
            proposal: law to draw latents from instead of the generator's base law.
            class_prior: [num_classes] class probabilities of a conditional generator; default uniform.
            tol: wanted error of the log-volume, nats.
            batch_size: latents per log_volume call; default as many as the memory budget allows.
            shard_rows: rows per shard, a multiple of batch_size: what an interruption can cost.
            store_latents: store latents (float32) instead of regenerating them from (seed, row id).
            memory: budget of the Jacobian products: bytes, or a size such as "1GiB".
            progress: show a progress bar, on a terminal.
            max_seconds: begin no shard that would end later than this after the call, once there are
                min_rows rows; the bank is then complete with fewer than n rows, a whole number of shards.
            min_rows: see max_seconds.

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            GeneratorError: the generator cannot be differentiated latent by latent.
            BankError: path holds a bank of other settings or foreign files, a shard is damaged, the disk
                is full, the path is not writable, or another process is building there.
            KeyboardInterrupt: with a message that says how to resume.
        """
        generator = Generator.of(generator)
        metadata = settle(
            generator,
            n,
            top_k,
            seed,
            proposal=proposal,
            class_prior=class_prior,
            tol=tol,
            batch_size=batch_size,
            shard_rows=shard_rows,
            store_latents=store_latents,
            memory=memory,
        )
        budget = Budget(max_seconds, min_rows)
        if path is None:
            return cls(*build_in_memory(generator, metadata, budget, progress))
        build_on_disk(generator, metadata, Path(path), budget, progress)
        return cls.open(path)._head(n)

    @classmethod
    def open(cls, path: str | Path, generator: Generator | nn.Module | None = None) -> Bank:
        """Read a bank and verify it.

        Args:
            path: the bank's directory.
            generator: if given, its weights must be the ones the bank was built with.

        Raises:
            BankError: not a bank, a newer format, an interrupted build, another generator, a damaged,
                edited or foreign shard, or a platform on which its latents come out differently.
        """
        path = Path(path)
        metadata = BankMetadata.read(path)
        if generator is not None:
            _require_same_generator(path, metadata, Generator.of(generator))
        stored = stored_rows(path, metadata)
        rows = complete_rows(metadata, stored)
        if rows < metadata.n:
            settle_for = f", or with n={rows} to settle for what is there" if rows else ""
            raise BankError(
                f"{path} is incomplete: it holds {rows} of {metadata.n} rows. Make the Bank.build call that "
                f"began it again to resume{settle_for}"
            )
        shards = range(math.ceil(metadata.n / metadata.shard_rows))
        columns = Columns.concat([read_shard(path, metadata, index) for index in shards])[: metadata.n]
        bank = cls(metadata, columns)
        bank.latents(torch.arange(min(len(bank), 64), device="cpu"))  # regenerates other bits? Say so now
        return bank

    @classmethod
    def import_npz(
        cls,
        path_npz: str | Path,
        generator: Generator | nn.Module | None = None,
        out: str | Path | None = None,
        *,
        base: str | Law = "normal",
        name: str | None = None,
    ) -> Bank:
        """Read a bank of the original authors' format: arrays `latents`, `svds` and optionally `labels`.

        The latents are stored. Their file says nothing of rounding, so `error` is NaN (unknown), or inf
        for a row with a value below 1e-5 of its largest. Rows that are all zero (never computed) are
        left out, as their own loaders do.

        Args:
            path_npz: the file.
            generator: the generator it was made with, checked against the shapes; its weight hash is
                recorded as the bank's. Without one the bank opens with any generator, with a warning.
            out: directory to write the bank to; None keeps it in memory.
            base: law the latents were drawn from, when no generator says it.
            name: name of the model; default the generator's, or the file's.

        Raises:
            BankError: not such a file, pickled objects in it, latents that are seeds, shapes that do not
                fit together or the generator, negative or non-finite values; or out is not writable.
        """
        from polarity_sampling.bank.npz import read_npz, store

        made_for = None if generator is None else Generator.of(generator)
        metadata, columns = read_npz(Path(path_npz), made_for, Law.of(base), name)
        if out is None:
            return cls(metadata, columns)
        store(Path(out), metadata, columns)
        return cls.open(out)

    def export_npz(self, path: str | Path) -> None:
        """Write arrays `latents` [N, K], `svds` [N, k] and, if conditional, one-hot `labels` [N, classes].

        What the original authors' samplers read. Error bounds and settings are lost.
        """
        from polarity_sampling.bank.npz import write_npz

        write_npz(Path(path), self)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Bank({self._metadata.model}, {len(self)} rows, top_k={self.top_k}, law={self.law})"

    @property
    def metadata(self) -> BankMetadata:
        """All settings."""
        return self._metadata

    @property
    def latent_dim(self) -> int:
        """K."""
        return self._metadata.latent_dim

    @property
    def directions(self) -> int:
        """n, the singular values of a latent that are not zero by construction; see `ps.log_volume`."""
        return self._metadata.directions

    @property
    def top_k(self) -> int:
        """Stored singular values per row."""
        return self._metadata.top_k

    @property
    def base(self) -> Law:
        """The generator's own latent law."""
        return self._metadata.base

    @property
    def law(self) -> Law:
        """The law the rows were drawn from: the proposal if there was one, else base."""
        return self._metadata.law

    @property
    def num_classes(self) -> int | None:
        """Classes of a conditional generator, else None."""
        return self._metadata.num_classes

    @property
    def row_ids(self) -> Tensor:
        """int64 [N]: 0 .. N - 1."""
        return self._columns.row_id

    @property
    def labels(self) -> Tensor | None:
        """int64 [N], None when unconditional."""
        return self._columns.label

    @property
    def singular_values(self) -> Tensor:
        """float64 [N, top_k], descending."""
        return self._columns.singular_values

    def log_volume(self, top_k: int | None = None) -> tuple[Tensor, Tensor]:
        """Log-volume of the leading singular values, and a bound on its error.

        Args:
            top_k: how many values, up to the bank's top_k; None for all that are stored.

        Returns:
            value and error, float64 [N] each, nats. Error inf: one of the values is below the noise floor;
            NaN: unknown (an imported row).
        """
        top_k = self.top_k if top_k is None else whole("top_k", top_k)
        if top_k == self.top_k:
            return self._columns.log_volume, self._columns.error
        if not 1 <= top_k < self.top_k:
            raise ValueError(
                f"top_k={top_k}: this bank stores {self.top_k} singular values per row. Pass 1 to "
                f"{self.top_k}, or build one with a larger top_k"
            )
        columns = self._columns
        return certify(columns.singular_values[:, :top_k], columns.floor, columns.eta, columns.delta)

    def latents(self, rows: Tensor) -> Tensor:
        """The latents of rows (int64 [n] row ids, any order): float32 [n, K] on the CPU, never other bits.

        Raises:
            TypeError, ValueError: rows is no tensor of int64, or a row id is out of range.
            BankError: a latent regenerated here is not the one whose singular values were computed.
        """
        if not isinstance(rows, Tensor):
            raise TypeError(f"rows is a {type(rows).__name__}: expected a tensor of int64 row ids [n]")
        if rows.dtype != torch.int64 or rows.ndim != 1:
            raise ValueError(f"rows is {rows.dtype} of shape {tuple(rows.shape)}: expected int64 row ids [n]")
        if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise ValueError(f"rows span [{rows.min()}, {rows.max()}]: expected row ids in [0, {len(self)})")
        if self._columns.latent is not None:
            return self._columns.latent[rows]
        z = self.law.draw(self._metadata.seed, rows, self.latent_dim)
        changed = latent_check(z) != self._columns.latent_check[rows]
        if bool(changed.any()):
            raise BankError(
                f"{int(changed.sum())} of {rows.numel()} latents come out with other bits here than where "
                "the bank was built (another platform or mathematics library). Use it there, or build it "
                "anew, with store_latents=True if it is to travel"
            )
        return z

    def _head(self, n: int) -> Bank:
        if n >= len(self):
            return self
        return Bank(dataclasses.replace(self._metadata, n=n), self._columns[:n])


def _require_same_generator(path: Path, metadata: BankMetadata, generator: Generator) -> None:
    if metadata.weight_hash is None:
        warnings.warn(
            f"{path} was imported without a generator: nothing tells whether it belongs to {generator.name}",
            PolarityWarning,
            stacklevel=3,
        )
    elif metadata.weight_hash != generator.weight_hash():
        raise BankError(
            f"{path} was built with another generator: found weight hash {metadata.weight_hash[:16]} "
            f"({metadata.model}), expected {generator.weight_hash()[:16]} ({generator.name}). Open it with "
            "that generator, or build a bank for this one"
        )
