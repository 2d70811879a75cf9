"""Time for a batch of log-volumes, beside other ways to them, in one run.

Contenders take turns, so that a machine that slows down slows all of them; only the ratios mean anything. The
error of each is measured on the same latents against float64; those that miss the wanted one are marked.
"""

import statistics
import time
from dataclasses import dataclass

import polarity_sampling as ps
import torch
from polarity_sampling.volume.qr import triangular_factor

from benchmarks.volume import peers
from benchmarks.volume.models import latents, load

MEDIAN_ERROR = 1e-2
SPREAD = 0.05


@dataclass(frozen=True)
class Row:
    contender: str
    milliseconds: float
    """Per latent, median of the repetitions."""
    error: float
    """Median of |value - truth|."""
    spread: float
    """Standard deviation of value - truth over latents."""
    largest: float
    products: float


def contenders(generator: ps.Generator, top_k: int) -> list[peers.Peer]:
    def ours(name: str, **arguments: object) -> peers.Peer:
        def run(z: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
            return ps.log_volume(generator, z, label, top_k=top_k, **arguments).value  # type: ignore[arg-type]

        return peers.Peer(name, run)

    return [
        ours("log_volume, exact", method="exact"),
        ours("log_volume, auto"),
        ours("log_volume, relative 0.2", tol_mode="relative", tol=0.2),
        ours("log_volume, relative 0.05", tol_mode="relative", tol=0.05),
        peers.chunked_jvp(generator, top_k),
        peers.dense_svd(generator, top_k),
        peers.stored_low_rank(generator, top_k, extra=10, power_steps=2),
        peers.published(generator, top_k),
    ]


def measure(name: str, top_k: int, batch: int, repetitions: int) -> list[Row]:
    generator = load(name)
    top_k = min(top_k, generator.latent_dim)
    z, label = latents(generator, 0, batch)
    double = generator.in_dtype(torch.float64)
    sigma = torch.linalg.svdvals(triangular_factor(ps.jacobian(double, z.double(), label).to_dense()))
    truth = sigma[:, :top_k].log().sum(1)
    seconds: dict[str, list[float]] = {}
    rows = contenders(generator, top_k)
    values = {}
    for peer in rows:  # calibrates, captures and allocates
        values[peer.name] = peer.run(z, label)
    for _ in range(repetitions):
        for peer in rows:
            start = time.perf_counter()
            peer.run(z, label)
            seconds.setdefault(peer.name, []).append(time.perf_counter() - start)
    able = torch.isfinite(truth)
    out = []
    for peer in rows:
        off = (values[peer.name] - truth)[able]
        out.append(
            Row(
                peer.name,
                1e3 * statistics.median(seconds[peer.name]) / batch,
                float(off.abs().median()),
                float(off.std()),
                float(off.abs().max()),
                _products(generator, peer.name, top_k, z, label),
            )
        )
    return out


def _products(
    generator: ps.Generator, contender: str, top_k: int, z: torch.Tensor, label: torch.Tensor | None
) -> float:
    """Products per latent that log_volume reports; of peers what they are known to take."""
    if contender.startswith("published"):
        return float(peers.ROWS)
    if not contender.startswith("log_volume"):
        return float(generator.latent_dim)
    route = contender.split(", ")[1].split(" ")
    arguments: dict[str, object] = (
        {"method": route[0]} if len(route) == 1 else {"tol_mode": "relative", "tol": float(route[1])}
    )
    volume = ps.log_volume(generator, z, label, top_k=top_k, **arguments)  # type: ignore[arg-type]
    return float(volume.spent.double().mean())


def show(name: str, top_k: int, batch: int, rows: list[Row]) -> None:
    print(f"\n{name}, top_k {top_k}, {batch} latents, {torch.get_num_threads()} threads")
    heading = ("", "ms/latent", "ratio", "products", "median err", "spread", "largest", "")
    print("{:<34} {:>10} {:>7} {:>9} {:>11} {:>9} {:>9}  {}".format(*heading))
    accurate = [r for r in rows if not r.contender.startswith("log_volume") and r.error <= MEDIAN_ERROR]
    best = min((r.milliseconds for r in accurate), default=float("nan"))
    for row in rows:
        meets = ("error " if row.error <= MEDIAN_ERROR else "") + ("spread" if row.spread <= SPREAD else "")
        print(
            f"{row.contender:<34} {row.milliseconds:>10.3f} {best / row.milliseconds:>6.2f}x "
            f"{row.products:>9.0f} {row.error:>11.1e} {row.spread:>9.1e} {row.largest:>9.1e}  {meets}",
            flush=True,
        )
    print(f"ratio: time of the fastest peer with a median error <= {MEDIAN_ERROR} over this one's")
