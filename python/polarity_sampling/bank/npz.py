"""The bank files of the original authors (Humayun, Balestriero, Baraniuk: MaGNET, Polarity Sampling).

One .npz with `latents` [N, K], `svds` [N, k] (singular values themselves, descending, no logarithm and
no epsilon; of the Jacobian behind their output projection) and, for conditional generators, `labels`
[N, classes] one-hot. The files their workers write carry extra leading axes, and an empty `labels` when
unconditional; their loaders flatten the axes and drop rows of zeros, and so does this one.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
import zipfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from polarity_sampling.bank.build import require_no_shards, settle_prior
from polarity_sampling.bank.columns import Columns, certify, latent_check
from polarity_sampling.bank.files import sole_builder, storage_errors, write_atomically
from polarity_sampling.bank.metadata import FILE, BankMetadata
from polarity_sampling.bank.shards import stored_rows, write_shard
from polarity_sampling.errors import BankError, PolarityWarning
from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law, Sphere
from polarity_sampling.volume.latents import nonzero

if TYPE_CHECKING:
    from polarity_sampling.bank.bank import Bank

# A float32 singular value below this part of the largest may be noise alone.
_NOISE = 1e-5
_SHARD_ROWS = 4096


def read_npz(
    path: Path, generator: Generator | None, base: Law, name: str | None
) -> tuple[BankMetadata, Columns]:
    """The rows of such a file and metadata for them; see Bank.import_npz."""
    arrays = _load(path)
    with np.errstate(over="ignore"):
        latents = _matrix(path, "latents", arrays["latents"]).astype(np.float32)
    svds = _matrix(path, "svds", arrays["svds"])
    classes, labels = _labels(path, arrays.get("labels"), len(latents))
    if len(latents) != len(svds):
        raise BankError(f"{path}: {len(latents)} latents but {len(svds)} rows of svds; expected one row each")
    if generator is not None:
        base = generator.base
        _require_fit(path, generator, latents.shape[1], classes)
    if svds.shape[1] > latents.shape[1]:
        raise BankError(
            f"{path}: {svds.shape[1]} singular values of {latents.shape[1]} latent coordinates: too many"
        )
    if not (np.isfinite(svds).all() and (svds >= 0.0).all() and np.isfinite(latents).all()):
        raise BankError(
            f"{path}: expected latents that are finite in float32 and finite, non-negative singular values"
        )

    computed = svds.any(axis=1)
    if not computed.all():
        missing = int((~computed).sum())
        if missing == len(svds):
            raise BankError(f"{path}: every row of svds is zero; nothing was computed")
        warnings.warn(
            f"{path}: {missing} of {len(svds)} rows of svds are all zero (never computed); they are left out",
            PolarityWarning,
            stacklevel=4,
        )
        latents, svds = latents[computed], svds[computed]
        labels = None if labels is None else labels[computed]

    z = torch.from_numpy(np.ascontiguousarray(latents))
    values = torch.from_numpy(-np.sort(-svds.astype(np.float64), axis=1))
    floor = _NOISE * values[:, 0]
    unknown = torch.full_like(floor, math.nan)
    volume, error = certify(values, floor, unknown, unknown)
    columns = Columns(
        row_id=torch.arange(len(z), device="cpu"),
        singular_values=values,
        log_volume=volume,
        error=error,
        rank=(values >= floor[:, None]).sum(1),
        floor=floor,
        eta=unknown,
        delta=unknown,
        latent_check=latent_check(z),
        label=None if labels is None else torch.from_numpy(labels),
        latent=z,
    )
    metadata = BankMetadata(
        model=name or (path.stem if generator is None else generator.name),
        weight_hash=None if generator is None else generator.weight_hash(),
        latent_dim=z.shape[1],
        directions=z.shape[1] - isinstance(base, Sphere) if generator is None else nonzero(generator),
        base=base,
        law=base,
        num_classes=classes,
        class_prior=settle_prior(classes, None),
        seed=0,
        n=len(z),
        top_k=values.shape[1],
        top_k_auto=False,
        tol=0.0,
        batch_size=1,
        shard_rows=_SHARD_ROWS,
        store_latents=True,
        memory=0,
        origin="npz " + _digest(columns),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environments=(),
    )
    return metadata, columns


def store(directory: Path, metadata: BankMetadata, columns: Columns) -> None:
    """Write rows that are all at hand as a bank; goes on with an interrupted write of the same rows."""
    with sole_builder(directory):
        if (directory / FILE).exists():
            differences = BankMetadata.read(directory).differences(metadata)
            if differences:
                raise BankError(
                    f"{directory} holds another bank ({'; '.join(differences)}): choose another directory"
                )
        else:
            require_no_shards(directory)
            metadata.write(directory)
        stored = stored_rows(directory, metadata)
        for index in range(math.ceil(metadata.n / metadata.shard_rows)):
            if index not in stored:
                start = index * metadata.shard_rows
                rows = columns[start : start + metadata.shard_rows]
                write_shard(directory, metadata, index, rows.to_table())


def write_npz(path: Path, bank: Bank) -> None:
    """Write the file atomically; see Bank.export_npz."""
    arrays: dict[str, Any] = {
        "latents": bank.latents(bank.row_ids).numpy(),
        "svds": bank.singular_values.numpy(),
    }
    if bank.labels is not None:
        assert bank.num_classes is not None
        one_hot = np.zeros((len(bank), bank.num_classes), dtype=np.float32)
        one_hot[np.arange(len(bank)), bank.labels.numpy()] = 1.0
        arrays["labels"] = one_hot
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getbuffer())


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with storage_errors(f"reading {path}"), ExitStack() as stack:
            file = np.load(path, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise BankError(f"{path} is a single array; expected an .npz with latents and svds")
            stack.enter_context(file)
            missing = {"latents", "svds"} - set(file)
            if missing:
                raise BankError(
                    f"{path} has no {' and no '.join(sorted(missing))}, only {', '.join(file) or 'nothing'}; "
                    "expected latents, svds and optionally labels"
                )
            arrays = {name: file[name] for name in ("latents", "svds", "labels") if name in file}
            for name, array in arrays.items():
                if not isinstance(array, np.ndarray):
                    raise BankError(f"{path}: {name} is damaged, it is no array in NumPy's format")
            return arrays
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BankError(f"{path} is not an .npz of plain arrays, or is truncated ({error})") from error


def _matrix(path: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.ndim < 2 or not np.issubdtype(array.dtype, np.floating):
        hint = "; seeds in place of latents cannot be imported" if name == "latents" else ""
        raise BankError(f"{path}: {name} is {array.dtype} {array.shape}, expected floats [N, ...]{hint}")
    matrix = array.reshape(-1, array.shape[-1])
    if matrix.size == 0:
        raise BankError(f"{path}: {name} has shape {array.shape}; expected at least one row and one column")
    return matrix


def _labels(
    path: Path, array: npt.NDArray[Any] | None, rows: int
) -> tuple[int | None, npt.NDArray[np.int64] | None]:
    """Number of classes and class of each row, from one-hot rows; (None, None) when unconditional."""
    if array is None or array.size == 0:
        return None, None
    one_hot = array.reshape(-1, *array.shape[-1:])
    shaped = one_hot.ndim == 2 and len(one_hot) == rows
    if not (shaped and np.isin(one_hot, (0, 1)).all() and (one_hot.sum(axis=1) == 1).all()):
        raise BankError(f"{path}: labels of shape {array.shape}; expected {rows} one-hot rows")
    return one_hot.shape[1], one_hot.argmax(axis=1).astype(np.int64)


def _require_fit(path: Path, generator: Generator, dim: int, classes: int | None) -> None:
    if generator.latent_dim != dim:
        raise BankError(f"{path}: found latent_dim {dim}, {generator.name} has {generator.latent_dim}")
    if generator.num_classes != classes:
        raise BankError(f"{path}: found {classes} classes, {generator.name} has {generator.num_classes}")


def _digest(columns: Columns) -> str:
    digest = hashlib.sha256()
    for values in (columns.latent, columns.singular_values, columns.label):
        if values is not None:
            digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()
