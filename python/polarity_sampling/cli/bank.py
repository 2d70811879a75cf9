"""`polarity bank`: build, look at, import and export banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polarity_sampling.cli.arguments import (
    numbers,
    parse_law,
    parse_proposal,
    parse_top_k,
    place,
    require_new,
)
from polarity_sampling.cli.command import Command, say

app = typer.Typer(help="Banks: latents with their singular values, in Parquet shards.", no_args_is_help=True)

Model = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="Registered name, or path.py:function.")
]
OptionalModel = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Registered name, or path.py:function."),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda or cuda:NUMBER; default for a registered model a GPU if there is one, for your own "
        "where its function puts it."
    ),
]
BankPath = Annotated[Path, typer.Argument(metavar="BANK", help="The bank's directory.")]


@app.command("build", cls=Command)
def build(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory of the bank.")],
    n: Annotated[int, typer.Option("--n", "-n", help="Rows.")] = 20_000,
    top_k: Annotated[
        str, typer.Option(metavar="auto|all|K", help="Singular values stored per row.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Stream of latents and labels.")] = 0,
    proposal: Annotated[
        str,
        typer.Option(
            metavar="LAW",
            help="Draw latents from this law, not the model's own: ball (the region of MaGNET), ball:12.0, "
            "uniform:-1,1, sphere, normal:0,1.5, none.",
        ),
    ] = "none",
    class_prior: Annotated[
        str | None, typer.Option(metavar="P0,P1,...", help="Class probabilities of a conditional model.")
    ] = None,
    store_latents: Annotated[
        bool, typer.Option("--store-latents", help="Store latents, for a bank that travels.")
    ] = False,
    tol: Annotated[float, typer.Option(help="Wanted error of the log-volume, nats.")] = 1e-2,
    memory: Annotated[str, typer.Option(help="Budget of the Jacobian products.")] = "1GiB",
    batch_size: Annotated[
        int | None, typer.Option(help="Latents at a time; default what the memory budget allows.")
    ] = None,
    shard_rows: Annotated[int, typer.Option(help="Rows per file: what an interruption can cost.")] = 1024,
    max_seconds: Annotated[
        float | None, typer.Option(help="Stop early, with a complete bank of fewer rows.")
    ] = None,
    latent_dim: Annotated[
        int | None, typer.Option(help="Of a module whose latent dimension cannot be inferred.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default all cores.")] = None,
    device: Device = None,
) -> None:
    """Compute the singular values of n latents. Run it again to resume, or with a larger n to extend."""
    import torch

    from polarity_sampling.bank import Bank
    from polarity_sampling.models import load_spec

    if threads is not None:
        torch.set_num_threads(threads)
    generator = load_spec(model, latent_dim)
    place(generator, device)
    bank = Bank.build(
        generator,
        n,
        out,
        parse_top_k(top_k),
        seed,
        proposal=parse_proposal(proposal, generator),
        class_prior=None if class_prior is None else numbers(class_prior, f"--class-prior {class_prior}"),
        tol=tol,
        batch_size=batch_size,
        shard_rows=shard_rows,
        store_latents=store_latents,
        memory=memory,
        max_seconds=max_seconds,
    )
    flagged = int(bank.log_volume()[1].isinf().sum())
    say(f"{out}: {len(bank):,} rows, top_k={bank.top_k} of {bank.directions}, {flagged} flagged")
    say(f"next: polarity bank info {out}")


@app.command("info", cls=Command)
def info(path: BankPath) -> None:
    """Show a bank: rows, model, settings, log-volumes, and the effective sample size by rho and top_k."""
    from polarity_sampling.cli.bank_report import show

    show(path)


@app.command("import", cls=Command)
def import_npz(
    npz: Annotated[Path, typer.Argument(metavar="IN.npz", help="Arrays latents, svds, labels.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of the new bank.")],
    model: OptionalModel = None,
    base: Annotated[
        str, typer.Option(metavar="LAW", help="Law of the latents, where no --model says it.")
    ] = "normal",
    name: Annotated[str | None, typer.Option(help="Name of the model, for reports.")] = None,
) -> None:
    """Turn an .npz bank of the original authors into a Parquet bank."""
    from polarity_sampling.bank import Bank
    from polarity_sampling.models import load_spec

    generator = None if model is None else load_spec(model)
    bank = Bank.import_npz(npz, generator, out, base=parse_law(base), name=name)
    say(f"{out}: {len(bank):,} rows, top_k={bank.top_k} of {bank.directions}")


@app.command("export", cls=Command)
def export_npz(
    path: BankPath,
    npz: Annotated[Path, typer.Argument(metavar="OUT.npz", help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write an .npz that the original authors' samplers read."""
    from polarity_sampling.bank import Bank

    require_new([npz], force)
    bank = Bank.open(path)
    bank.export_npz(npz)
    say(f"{npz}: {len(bank):,} rows; error bounds and settings stay behind in {path}")
