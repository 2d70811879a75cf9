"""What `polarity bank info` shows."""

from __future__ import annotations

from pathlib import Path

from polarity_sampling.bank import Bank, BankMetadata
from polarity_sampling.bank.shards import complete_rows, stored_rows
from polarity_sampling.cli.command import say, stdout
from polarity_sampling.errors import SamplingError
from polarity_sampling.samplers import effective_sample_sizes

RHOS = (-1.0, -0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 1.0)
_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def show(path: Path) -> None:
    """Print a report on the bank in a directory; one whose build was interrupted shows its settings."""
    metadata = BankMetadata.read(path)
    rows = complete_rows(metadata, stored_rows(path, metadata))
    if rows < metadata.n:
        _settings(metadata, f"{rows:,} of {metadata.n:,}: INCOMPLETE, run the command that began it again")
        return
    bank = Bank.open(path)
    _settings(metadata, f"{rows:,}, complete and intact")
    _log_volumes(bank)
    _effective_sizes(bank)


def _settings(metadata: BankMetadata, rows: str) -> None:
    from rich.table import Table
    from rich.text import Text

    made = metadata.environments[-1] if metadata.environments else None
    places = len(metadata.environments)
    changed = f"; {places} environments, see metadata.json" if places > 1 else ""
    how = f"tol {metadata.tol:g}" if metadata.origin == "build" else "imported"
    top_k = f"{metadata.top_k} of {metadata.directions}" + (" (auto)" if metadata.top_k_auto else "")
    facts = {
        "rows": rows,
        "model": metadata.model,
        "weights": metadata.weight_hash or "unknown (imported without a model)",
        "top_k": top_k,
        "latents": f"{metadata.law}, " + ("stored" if metadata.store_latents else f"seed {metadata.seed}"),
        "base law": str(metadata.base),
        "classes": "none" if metadata.num_classes is None else str(metadata.num_classes),
        "made": f"{metadata.created}, {how}",
        "by": "unknown" if made is None else
        f"polarity-sampling {made.library_version}, torch {made.torch_version}, {made.device}, "
        f"{made.threads} threads{changed}",
    }  # fmt: skip
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    stdout().print(table)


def _log_volumes(bank: Bank) -> None:
    import torch
    from rich.table import Table

    table = Table(title="log-volume, nats", title_justify="left", title_style="bold")
    for heading in ("top_k", "min", "5%", "median", "95%", "max", "flagged", "max error"):
        table.add_column(heading, justify="right")
    for top_k in ladder(bank.top_k):
        value, error = bank.log_volume(top_k)
        finite = value[value.isfinite()]
        if not finite.numel():
            continue
        quantiles = torch.quantile(finite, torch.tensor(_QUANTILES, dtype=finite.dtype)).tolist()
        flagged = int(error.isposinf().sum())
        known = error[error.isfinite()]
        worst = f"{float(known.max()):.1e}" if known.numel() else "unknown"
        table.add_row(str(top_k), *(f"{q:.2f}" for q in quantiles), str(flagged), worst)
    stdout().print(table)


def _effective_sizes(bank: Bank) -> None:
    from rich.table import Table

    table = Table(
        title="effective sample size, rows, by rho: draw no more than this",
        title_justify="left", title_style="bold",
    )  # fmt: skip
    table.add_column("top_k", justify="right")
    for rho in RHOS:
        table.add_column(f"{rho:g}", justify="right")
    left_out = False
    for top_k in ladder(bank.top_k):
        try:
            sizes = effective_sample_sizes(bank, RHOS, top_k)
        except SamplingError:
            left_out = True
            table.add_row(str(top_k), *["-"] * len(RHOS))
            continue
        table.add_row(str(top_k), *(f"{size:,.0f}" if size >= 10 else f"{size:.1f}" for size in sizes))
    stdout().print(table)
    if left_out:
        say("-: more than 1% of the rows are flagged (below the noise floor); use a smaller top_k")


def ladder(top_k: int) -> list[int]:
    """Values of top_k worth a row in a table or a curve: 1, 2, 5, 10, 20, 50, ... up to top_k itself."""
    steps = [m * 10**e for e in range(6) for m in (1, 2, 5)]
    return [step for step in steps if step < top_k] + [top_k]
