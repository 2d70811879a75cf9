"""Time for a batch of log-volumes, beside other ways to them, in one run.

Contenders take turns, so that a machine that slows down slows all of them; only the ratios mean anything. All
get the same latents in one call: of pretrained perceptrons as many as a bank takes together, because with few
a call is all dispatch; the smallest networks are measured with few as well. The error of each is measured on
the same latents against float64; those that miss the wanted one are marked. skerch takes part where it is
installed and few values of many are wanted.
"""

import csv
import platform
import random
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import polarity_sampling as ps
import torch
from polarity_sampling.bank.build import MOST_BATCH, suggested_batch
from polarity_sampling.volume.qr import triangular_factor
from polarity_sampling.volume.svd import worth_iterating
from torch import Tensor

from benchmarks.kernels.timing import Spread, ratio
from benchmarks.volume import peers
from benchmarks.volume.models import PRETRAINED, STYLEGAN2, latents, load

MEDIAN_ERROR = 1e-2
SPREAD = 0.05
FEWEST_ROUNDS = 3
SECONDS = 30.0  # of one case; no round begins later, once there are enough

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Case:
    """The `top_k` leading values of `batch` latents of a model (None: as many as `Bank.build` takes)."""

    model: str
    top_k: int
    batch: int | None


DCGAN = "face_dcgan_digiface64"
TOYS = ("toy2d_ganlab_gaussians", "toy2d_ganlab_ring")
PERCEPTRONS = ("fashionmnist_gan_mlp", "mnist_vae_mlp", *TOYS)
CASES = (
    Case("mlp_64_256_256_784", 10, 64),
    Case("planted_512", 30, 16),
    Case(DCGAN, 30, 4),
    Case(DCGAN, 10, 4),
    *(Case(name, 10, None if name in PERCEPTRONS else 16) for name in PRETRAINED if name != DCGAN),
    *(Case(name, 10, 16) for name in TOYS),
    Case(STYLEGAN2, 30, 1),
)


@dataclass(frozen=True)
class Row:
    """One contender in one case; `Row` is a line of results/speed.csv."""

    model: str
    K: int
    top_k: int
    latents: int
    contender: str
    ms_per_latent: str
    """Median of the rounds."""
    products: str
    """Per latent, as reported by log_volume; of peers what they are known to take."""
    median_error: str
    """Of |value - truth|, nats."""
    spread: str
    """Standard deviation of value - truth over latents; empty for a single latent."""
    largest_error: str
    meets: str
    best_peer_over_this: str
    """Time of the fastest peer with a median error <= 0.01, by this one's: median of the rounds' ratios."""
    published_over_this: str
    """The same for the published algorithm."""
    machine: str


@dataclass(frozen=True)
class _Contender:
    name: str
    run: Callable[[Tensor, Tensor | None], tuple[Tensor, float]]
    """Values [B] and products per latent."""
    is_peer: bool


def contenders(generator: ps.Generator, case: Case) -> list[_Contender]:
    def ours(name: str, **arguments: object) -> _Contender:
        def run(z: Tensor, label: Tensor | None) -> tuple[Tensor, float]:
            volume = ps.log_volume(generator, z, label, top_k=case.top_k, **arguments)  # type: ignore[arg-type]
            return volume.value, float(volume.spent.double().mean())

        return _Contender(f"log_volume, {name}", run, is_peer=False)

    def theirs(peer: peers.Peer, products: int) -> _Contender:
        return _Contender(peer.name, lambda z, label: (peer.run(z, label), float(products)), is_peer=True)

    dim = generator.latent_dim
    z, label = latents(generator, 0, 1)
    rows = min(peers.ROWS, generator(z, label).numel())
    chunked = theirs(peers.chunked_jvp(generator, case.top_k), dim)
    published = theirs(peers.published(generator, case.top_k), rows)
    if case.model == STYLEGAN2:
        # The calibration of other routes, and peers that hold 512 tangents of the network at once, take an
        # hour and tens of gigabytes.
        return [ours("exact", method="exact"), ours("krylov", method="krylov"), chunked, published]
    sketched = []
    if find_spec("skerch") is not None and worth_iterating(dim, case.top_k):
        measurements = min(dim // 2, 8 * case.top_k)
        sketched.append(theirs(peers.skerch(generator, case.top_k, measurements), 2 * measurements))
    return [
        ours("exact", method="exact"),
        ours("auto"),
        ours("relative 0.2", tol_mode="relative", tol=0.2),
        ours("relative 0.05", tol_mode="relative", tol=0.05),
        chunked,
        theirs(peers.dense_svd(generator, case.top_k), dim),
        theirs(peers.stored_low_rank(generator, case.top_k, extra=10, power_steps=2), dim),
        *sketched,
        published,
    ]


def measure(case: Case, clock: str) -> list[Row]:
    """All contenders of a case; `clock` is "wall" or "cpu"."""
    generator = load(case.model)
    batch = min(MOST_BATCH, suggested_batch(generator, "1GiB")) if case.batch is None else case.batch
    case = Case(case.model, min(case.top_k, generator.latent_dim), batch)
    z, label = latents(generator, 0, batch)
    truth = _truth(generator, z, label)[:, : case.top_k].log().sum(1)
    able = torch.isfinite(truth)
    runners = contenders(generator, case)
    found = {c.name: c.run(z, label) for c in runners}  # calibrates, captures and allocates
    seconds = _in_turns({c.name: lambda c=c: c.run(z, label) for c in runners}, CLOCKS[clock])
    off = {name: (values - truth)[able] for name, (values, _) in found.items()}
    accurate = [c.name for c in runners if c.is_peer and off[c.name].abs().median() <= MEDIAN_ERROR]
    best = min(accurate, key=lambda name: Spread.of(seconds[name]).median, default=None)
    machine = (
        f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {clock} time"
    )

    def over(name: str | None, this: str) -> str:
        return "" if name is None else f"{ratio(seconds[name], seconds[this]).median:.2f}"

    rows = []
    for contender in runners:
        name = contender.name
        error = float(off[name].abs().median())
        spread = float(off[name].std()) if off[name].numel() > 1 else float("nan")
        meets = ("error " if error <= MEDIAN_ERROR else "") + ("spread" if spread <= SPREAD else "")
        rows.append(
            Row(
                model=case.model,
                K=generator.latent_dim,
                top_k=case.top_k,
                latents=batch,
                contender=name,
                ms_per_latent=f"{1e3 * Spread.of(seconds[name]).median / batch:.3g}",
                products=f"{found[name][1]:.0f}",
                median_error=f"{error:.1e}",
                spread="" if spread != spread else f"{spread:.1e}",
                largest_error=f"{float(off[name].abs().max()):.1e}",
                meets=meets.strip(),
                best_peer_over_this=over(best, name),
                published_over_this=over(runners[-1].name, name),
                machine=machine,
            )
        )
    return rows


def _truth(generator: ps.Generator, z: Tensor, label: Tensor | None) -> Tensor:
    """Singular values [B, K] of the float64 Jacobian."""
    dense = ps.jacobian(generator.in_dtype(torch.float64), z.double(), label).to_dense()
    return torch.linalg.svdvals(triangular_factor(dense))


def _in_turns(calls: dict[str, Callable[[], object]], clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each by round; a round runs every call once, in an order of its own.

    What runs behind a call that has filled caches and returned memory pays for it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    rounds = 0
    while rounds < FEWEST_ROUNDS or (rounds < 5 * FEWEST_ROUNDS and time.perf_counter() - begin < SECONDS):
        for name in random.Random(rounds).sample(list(calls), len(calls)):
            start = clock()
            calls[name]()
            seconds[name].append(clock() - start)
        rounds += 1
    return seconds


def show(rows: list[Row]) -> None:
    first = rows[0]
    print(f"\n{first.model}, top {first.top_k} of {first.K}, {first.latents} latents; {first.machine}")
    columns = slice(4, -1)  # the others are the same in every row
    for line in ([f.name for f in fields(Row)], *map(astuple, rows)):
        print(("{:<32}" + " {:>19}" * 8).format(*line[columns]), flush=True)


def keep(rows: list[Row], path: Path) -> None:
    """Into the table of results, in place of earlier rows of the same case."""
    header = [f.name for f in fields(Row)]

    def case_of(row: dict[str, str]) -> tuple[str, str, str]:
        return row["model"], row["top_k"], row["latents"]

    kept: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = list(csv.DictReader(file))
    fresh = [dict(zip(header, map(str, astuple(row)), strict=True)) for row in rows]
    replaced = {case_of(row) for row in fresh}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows([row for row in kept if case_of(row) not in replaced] + fresh)
