"""Time for a batch of log-volumes, beside other ways to them, in one run.

Contenders take turns, so that a machine that slows down slows all of them; only the ratios mean anything. All
get the same latents in one call: of pretrained perceptrons as many as a bank takes together, because with few
a call is all dispatch; the smallest networks are measured with few as well. The error of each is measured on
the same latents against float64; those that miss the wanted one are marked. skerch takes part where it is
installed and few values of many are wanted.

On a GPU batches and budgets are larger, times are of the wall with the device's work done, and all contenders
multiply in float32, not TF32.
"""

import csv
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

from benchmarks.devices import Clock, clock_of, machine
from benchmarks.kernels.timing import Spread, ratio
from benchmarks.volume import peers
from benchmarks.volume.models import ONE_STEP, PRETRAINED, STYLEGAN2, latents, load

MEDIAN_ERROR = 1e-2
SPREAD = 0.05
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Budget:
    """What one case may take on a device."""

    memory: str
    """Of log_volume."""
    seconds: float
    """No round begins later, once there are enough."""
    longest: float
    """A peer whose first call takes more seconds is not run again: what only a first call does is little
    beside that. torch's decompositions of batches go matrix by matrix on a GPU."""


BUDGETS = {"cpu": Budget("1GiB", 30.0, float("inf")), "cuda": Budget("16GiB", 5.0, 5.0)}


@dataclass(frozen=True)
class Case:
    """The `top_k` leading values of `batch` latents of a model (None: as many as `Bank.build` takes)."""

    model: str
    top_k: int
    batch: int | None
    on_gpu: int | None = None
    """The batch there."""

    def on(self, device: str) -> "Case":
        return self if device == "cpu" else Case(self.model, self.top_k, self.on_gpu, self.on_gpu)


DCGAN = "face_dcgan_digiface64"
TOYS = ("toy2d_ganlab_gaussians", "toy2d_ganlab_ring")
PERCEPTRONS = ("fashionmnist_gan_mlp", "mnist_vae_mlp", *TOYS)
CASES = (
    Case("mlp_64_256_256_784", 10, 64, 4096),
    Case("planted_512", 30, 16, 256),
    Case(DCGAN, 30, 4, 64),
    Case(DCGAN, 10, 4, 64),
    *(
        Case(name, 10, None if name in PERCEPTRONS else 16, None if name in TOYS else 256)
        for name in PRETRAINED
        if name != DCGAN
    ),
    *(Case(name, 10, 16) for name in TOYS),
    Case(ONE_STEP, 10, 2, 8),
    Case(STYLEGAN2, 30, 4, 4),
)


def cases(device: str) -> tuple[Case, ...]:
    """Those of a device, each once: some differ in the batch on a CPU alone."""
    return tuple(dict.fromkeys(case.on(device) for case in CASES))


@dataclass(frozen=True)
class Row:
    """One contender in one case; `Row` is a line of results/speed.csv, or of the file of a GPU beside it."""

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
            memory = BUDGETS[z.device.type].memory
            volume = ps.log_volume(
                generator,
                z,
                label,
                top_k=case.top_k,
                memory=memory,
                **arguments,  # type: ignore[arg-type]
            )
            return volume.value, float(volume.spent.double().mean())

        return _Contender(f"log_volume, {name}", run, is_peer=False)

    def theirs(peer: peers.Peer, products: int) -> _Contender:
        return _Contender(peer.name, lambda z, label: (peer.run(z, label), float(products)), is_peer=True)

    dim = generator.latent_dim
    z, label = latents(generator, 0, 1)
    rows = min(peers.ROWS, generator(z, label).numel())
    chunked = theirs(peers.chunked_jvp(generator, case.top_k), dim)
    published = theirs(peers.published(generator, case.top_k), rows)
    if case.model == ONE_STEP:  # the others decompose matrices [3072, 3072], too
        return [ours("exact", method="exact"), ours("auto"), chunked, published]
    if case.model == STYLEGAN2:
        # Other peers hold 512 tangents of the network at once, and the relative routes are calibrated by 512
        # products for each of 228 latents.
        return [
            ours("exact", method="exact"),
            ours("krylov", method="krylov"),
            ours("relative 0.05", tol_mode="relative", tol=0.05),
            chunked,
            published,
        ]
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


def measure(case: Case, clock: str, device: str = "cpu") -> list[Row]:
    """All contenders of a case; `clock` is "wall" or "cpu"."""
    generator, budget = load(case.model, device), BUDGETS[device]
    batch = min(MOST_BATCH, suggested_batch(generator, budget.memory)) if case.batch is None else case.batch
    case = Case(case.model, min(case.top_k, generator.latent_dim), batch)
    z, label = latents(generator, 0, batch)
    truth = _truth(generator, z, label)[:, : case.top_k].log().sum(1)
    able = torch.isfinite(truth)
    runners = contenders(generator, case)
    timer = clock_of(device, clock)
    found: dict[str, tuple[Tensor, float]] = {}
    first: dict[str, float] = {}
    for contender in runners:  # calibrates, captures and allocates
        start = timer()
        try:
            values, products = contender.run(z, label)
        except torch.OutOfMemoryError:
            if not contender.is_peer:
                raise
            print(f"{case.model}: {contender.name} needs more memory than there is")
            continue
        first[contender.name] = timer() - start
        found[contender.name] = values.cpu(), products
    runners = [c for c in runners if c.name in found]
    again = [c for c in runners if not c.is_peer or first[c.name] <= budget.longest]
    calls = {c.name: lambda c=c: c.run(z, label) for c in again}
    seconds = _in_turns(calls, timer, budget.seconds)
    rounds = len(seconds[runners[0].name])
    seconds |= {name: [once] * rounds for name, once in first.items() if name not in calls}
    off = {name: (values - truth)[able] for name, (values, _) in found.items()}
    accurate = [c.name for c in runners if c.is_peer and off[c.name].abs().median() <= MEDIAN_ERROR]
    best = min(accurate, key=lambda name: Spread.of(seconds[name]).median, default=None)
    published = next((c.name for c in runners if c.name.startswith("published")), None)

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
                published_over_this=over(published, name),
                machine=machine(device, clock),
            )
        )
    return rows


def _truth(generator: ps.Generator, z: Tensor, label: Tensor | None) -> Tensor:
    """Singular values [B, K] of the float64 Jacobian, on the CPU, which is faster at small matrices."""
    dense = ps.jacobian(generator.in_dtype(torch.float64), z.double(), label).to_dense()
    return torch.linalg.svdvals(triangular_factor(dense).cpu())


def _in_turns(calls: dict[str, Callable[[], object]], clock: Clock, budget: float) -> dict[str, list[float]]:
    """Seconds of each by round; a round runs every call once, in an order of its own.

    What runs behind a call that has filled caches and returned memory pays for it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    rounds = 0
    while rounds < FEWEST_ROUNDS or (rounds < 5 * FEWEST_ROUNDS and time.perf_counter() - begin < budget):
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
