"""`polarity demo`: the whole way from a pretrained generator to pictures."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarity_sampling.cli.arguments import place
from polarity_sampling.cli.bank import Device
from polarity_sampling.cli.command import say
from polarity_sampling.cli.demo_result import SUMMARY, Setting, show

if TYPE_CHECKING:
    from polarity_sampling.bank import Bank
    from polarity_sampling.generator import Generator
    from polarity_sampling.models import ModelCard

MOST_ROWS = 4096
LEAST_ROWS = 256
# Small shards: a slow generator shows progress, and an interruption costs little.
_SHARD = 64


def demo(
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="Registered name, or path.py:function.")
    ] = "faces",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("demo"),
    seconds: Annotated[
        float, typer.Option(min=0.0, help=f"Time for the bank; it has at least {LEAST_ROWS} rows.")
    ] = 180.0,
    rows: Annotated[
        int | None, typer.Option(min=1, help=f"Rows of the bank at most. [default: {MOST_ROWS}]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bank and of the draws.")] = 0,
    device: Device = None,
) -> None:
    """Build a bank of a real generator, draw at several rho and with MaGNET, and write pictures.

    Run again, it goes on with an interrupted bank and reuses a finished one; --rows asks for a larger one.
    """
    from polarity_sampling.report.style import styled

    styled()  # without matplotlib it should end here, not after the bank
    generator, card = _generator(model)
    place(generator, device)
    _require_same_model(out, generator.name)
    bank_path = out / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', generator.name)}.bank"
    bank = _bank(generator, bank_path, seconds, rows, seed)
    show(Setting(generator, card, bank, bank_path, out, seed))


def _generator(model: str) -> tuple[Generator, ModelCard | None]:
    from polarity_sampling.models import available, install, load_spec

    names = {card.name: card for card in available()}
    if model in names:
        card = names[model]
        if not card.installed:
            say(f"fetching the model {model!r} from {card.source}")
            install(model)
        say(f"{card.name}: {card.description}. Licence: {card.licence}. Data: {card.data}.")
        return load_spec(model), card
    return load_spec(model), None


def _require_same_model(out: Path, name: str) -> None:
    summary = out / SUMMARY
    if summary.is_file():
        try:
            found = json.loads(summary.read_text())["model"]
        except (ValueError, KeyError, TypeError):
            found = "something else"
        if found != name:
            raise FileExistsError(f"{out} holds the demo of {found!r}: choose another folder with --out")


def _bank(generator: Generator, path: Path, seconds: float, rows: int | None, seed: int) -> Bank:
    from polarity_sampling.bank import Bank, BankMetadata
    from polarity_sampling.bank.metadata import FILE
    from polarity_sampling.bank.shards import complete_rows, stored_rows

    wanted, there = rows or MOST_ROWS, 0
    if (path / FILE).is_file():
        metadata = BankMetadata.read(path)
        there = complete_rows(metadata, stored_rows(path, metadata))
        if there == metadata.n and (rows is None or there >= rows):
            say(f"reusing {path} ({there:,} rows; --rows asks for more)")
            wanted = there
        elif there:
            say(f"going on with {path}: {there:,} rows are there")
    else:
        say(f"building {path}: {seconds:g} s or {wanted:,} latents, at least {min(wanted, LEAST_ROWS)}")
    began = time.monotonic()
    bank = Bank.build(
        generator,
        wanted,
        path,
        top_k=None,
        seed=seed,
        shard_rows=_SHARD,
        max_seconds=seconds,
        min_rows=min(wanted, LEAST_ROWS),
    )
    new, took = len(bank) - there, time.monotonic() - began
    if new:
        say(f"{len(bank):,} latents, all {bank.top_k} singular values each: {new:,} new in {took:.0f} s")
    return bank
