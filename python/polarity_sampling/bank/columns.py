"""The rows of a bank as tensors, and as an Arrow table."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polarity_sampling.volume.certificate import log_volume_and_error

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Columns:
    """n rows of a bank.

    Attributes:
        row_id: int64 [n].
        singular_values: float64 [n, k], descending.
        log_volume, error: float64 [n], nats, of the k values; error inf: one is below the noise floor,
            NaN: unknown (imported rows).
        rank: int64 [n].
        floor, eta, delta: float64 [n], the terms of the error bound; see LogVolume.
        latent_check: int64 [n], `latent_check` of the row's latent.
        label: int64 [n], or None when unconditional.
        latent: float32 [n, K], or None when latents are regenerated.
    """

    row_id: Tensor
    singular_values: Tensor
    log_volume: Tensor
    error: Tensor
    rank: Tensor
    floor: Tensor
    eta: Tensor
    delta: Tensor
    latent_check: Tensor
    label: Tensor | None = None
    latent: Tensor | None = None

    def __len__(self) -> int:
        return self.row_id.numel()

    def __getitem__(self, rows: slice) -> Columns:
        return Columns(**{name: value[rows] for name, value in self.present().items()})

    def present(self) -> dict[str, Tensor]:
        """The columns that are there, by name."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if value is not None}

    def to_table(self) -> pa.Table:
        """One Arrow column each; matrices as fixed-size lists."""
        import pyarrow as pa

        arrays = {}
        for name, value in self.present().items():
            flat = pa.array(value.contiguous().numpy().reshape(-1))
            matrix = value.ndim == 2
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, value.shape[1]) if matrix else flat
        return pa.table(arrays)

    @staticmethod
    def from_table(table: pa.Table) -> Columns:
        """Inverse of to_table, without copies where Arrow allows it."""
        return Columns(**{name: _tensor(table[name]) for name in table.column_names})

    @staticmethod
    def concat(parts: list[Columns]) -> Columns:
        """The rows of all parts, in order; at least one part."""
        if len(parts) == 1:
            return parts[0]
        columns = [part.present() for part in parts]
        return Columns(**{name: torch.cat([column[name] for column in columns]) for name in columns[0]})


def certify(singular_values: Tensor, floor: Tensor, eta: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Log-volume and error bound of rows, float64 [n] each; error NaN where eta is: unknown, if not inf."""
    unknown = eta.isnan()
    value, error = log_volume_and_error(singular_values, floor, eta.nan_to_num(), delta.nan_to_num())
    return value, error.masked_fill(unknown & error.isfinite(), math.nan)


def latent_check(latents: Tensor) -> Tensor:
    """A 64-bit sum over each latent's bits, int64 [n]: tells whether a regenerated latent is the one used.

    The polynomial Σ_i bits(z_i) · φ^(i + 1) mod 2**64 in an odd φ: a change of any one number shows.
    """
    phi = 0x9E3779B97F4A7C15
    powers = [pow(phi, i + 1, 2**64) for i in range(latents.shape[1])]
    weights = torch.from_numpy(np.array(powers, dtype=np.uint64).view(np.int64))
    out = torch.empty(latents.shape[0], dtype=torch.int64, device="cpu")
    step = max(1, (1 << 20) // latents.shape[1])
    for start in range(0, latents.shape[0], step):
        bits = latents[start : start + step].contiguous().view(torch.int32).long()
        out[start : start + step] = bits.mul_(weights).sum(1)
    return out


def _tensor(column: Any) -> Tensor:
    import pyarrow as pa

    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no rows, or too many for one array
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
        values = array.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
    else:
        values = array.to_numpy(zero_copy_only=True)
    return torch.from_numpy(np.array(values))  # own, writable memory
