"""One workload: our products and everybody else's, in turns, with their errors and their memory."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import polarity_sampling as ps
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.jacobian.memory import peak_bytes
from benchmarks.jacobian.models import Workload
from benchmarks.jacobian.peers import Peer, adjoint_peers, forward_peers, pull, push
from benchmarks.kernels.timing import Times, once
from tests.architectures.kinks import latents_off_kinks

GEMM = 2048
ROUNDS = range(3, 11)  # at least, at most
SECONDS = 60.0  # no round begins later, once there are enough
WORTH_RUNNING = 3.0  # times the fastest peer's estimate; slower peers stay estimates
PROBES_CHECKED = 8


@dataclass(frozen=True)
class Side:
    """All products of one direction: ours, and the fastest peer's."""

    seconds: Times
    peer: str
    peer_seconds: Times
    others: dict[str, float]
    """Seconds of the other peers; of those much slower an estimate."""
    error: float
    """Of the worst product against float64, relative to its norm."""
    peer_error: float
    bytes: int
    peer_bytes: int

    @property
    def ratio(self) -> float:
        return self.peer_seconds.median / self.seconds.median


def measure(name: str, workload: Workload, memory: int) -> dict[str, Any]:
    generator = workload.make()
    z, label = latents_off_kinks(generator, workload.batch, seed=0)
    batch, dim = z.shape
    with FlopCounterMode(display=False) as counter:
        samples = generator.flat(z, label)
    cotangents = torch.randn(dim, batch, samples.shape[1], generator=torch.Generator().manual_seed(0))
    identity = torch.eye(dim)[:, None].expand(-1, batch, -1)
    del samples

    forward, gemm = _side(
        lambda: ps.jacobian(generator, z, label, memory=memory).to_dense().permute(2, 0, 1),
        forward_peers(generator, z, label, memory),
        identity[:PROBES_CHECKED],
        lambda probes: push(_double(generator, label), z.double(), probes.double()),
    )
    adjoint, _ = _side(
        lambda: (ps.jacobian(generator, z, label, memory=memory).mT @ cotangents.permute(1, 2, 0)).permute(
            2, 0, 1
        ),
        adjoint_peers(generator, z, label, cotangents, memory),
        cotangents[:PROBES_CHECKED],
        lambda probes: pull(_double(generator, label), z.double(), probes.double()),
    )
    flops = counter.get_total_flops() * dim
    return {
        "name": name,
        "generator": generator.name,
        "latents": batch,
        "dim": dim,
        "flops": flops,
        "bound_seconds": flops * gemm.median / (2 * GEMM**3),
        "forward": asdict(forward),
        "adjoint": asdict(adjoint),
        "forward_ratio": forward.ratio,
        "adjoint_ratio": adjoint.ratio,
        "adjoint_over_forward": adjoint.seconds.median / forward.seconds.median,
        "part_of_bound": flops * gemm.median / (2 * GEMM**3) / forward.seconds.median,
    }


def _double(generator: ps.Generator, label: Tensor | None) -> Callable[[Tensor], Tensor]:
    twin = generator.in_dtype(torch.float64)
    return lambda z: twin.flat(z, label)


def _side(
    ours: Callable[[], Tensor],
    peers: list[Peer],
    probes: Tensor,
    truth: Callable[[Tensor], Tensor],
) -> tuple[Side, Times]:
    """Measures one direction, and the matrix product beside it."""
    a = torch.randn(GEMM, GEMM)
    running = [peer for peer in peers if peer.seconds <= WORTH_RUNNING * peers[0].seconds]
    calls: dict[str, Callable[[], object]] = {"ours": ours, "gemm": lambda: a @ a}
    calls.update({peer.name: peer.run for peer in running})
    times = in_turns(calls)
    best = min(running, key=lambda peer: times[peer.name].median)
    expected = truth(probes)
    errors = [
        ((found[: len(probes)].double() - expected).norm(dim=2) / expected.norm(dim=2)).max().item()
        for found in (ours(), best.run())
    ]
    side = Side(
        times["ours"],
        best.name,
        times[best.name],
        {
            peer.name: times[peer.name].median if peer in running else peer.seconds
            for peer in peers
            if peer is not best
        },
        *errors,
        peak_bytes(ours),
        peak_bytes(best.run),
    )
    return side, times["gemm"]


def in_turns(calls: dict[str, Callable[[], object]]) -> dict[str, Times]:
    """Each round runs every call once, so that a machine that slows down slows all of them."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for done in range(ROUNDS.stop - 1):
        if done >= ROUNDS.start and time.perf_counter() - begin > SECONDS:
            break
        for name, call in calls.items():
            seconds[name].append(once(call, "cpu"))
    return {name: Times.of(values) for name, values in seconds.items()}
