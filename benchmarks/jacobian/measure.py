"""One workload: our products and everybody else's, in turns, with their errors and their memory."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polarity_sampling as ps
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.devices import Clock
from benchmarks.jacobian.memory import peak_bytes
from benchmarks.jacobian.models import Workload
from benchmarks.jacobian.peers import Peer, adjoint_peers, forward_peers, pull, push, seconds_of
from benchmarks.kernels.timing import Spread, ratio

GEMM = {"cpu": 2048, "cuda": 8192}
ROUNDS = range(3, 11)  # at least, at most
SECONDS = 60.0  # no round begins later, once there are enough
WORTH_RUNNING = 3.0  # times the fastest peer's estimate; slower peers stay estimates
PROBES_CHECKED = 8


@dataclass(frozen=True)
class Side:
    """One direction: our products, and the fastest peer's."""

    seconds: Spread
    peer: str
    peer_seconds: Spread
    others: dict[str, float]
    """Seconds of the other peers; of those much slower an estimate."""
    error: float
    """Of the worst product against float64, relative to its norm."""
    peer_error: float
    bytes: int
    peer_bytes: int
    ratio: Spread
    """The peer's time over ours, round by round."""


@dataclass(frozen=True)
class Direction:
    """What is to be measured of it."""

    ours: Callable[[], Tensor]
    """All products, probes in front."""
    peers: list[Peer]
    truth: Tensor
    """The first products in float64."""

    @property
    def running(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.seconds <= WORTH_RUNNING * self.peers[0].seconds]


def measure(name: str, workload: Workload, memory: int, clock: Clock, device: str = "cpu") -> dict[str, Any]:
    generator, z, label = workload.on(device)
    batch, dim = z.shape
    products = workload.products or dim
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dim_out = generator.flat(z, label).shape[1]
    random = torch.Generator(device).manual_seed(0)
    U = torch.randn(products, batch, dim_out, generator=random, device=device)
    V = torch.eye(dim, device=device)[:products, None].expand(-1, batch, -1)
    twin, checked = generator.in_dtype(torch.float64), slice(0, PROBES_CHECKED)

    def exact(z: Tensor) -> Tensor:
        return twin.flat(z, label)

    def columns() -> Tensor:
        J = ps.jacobian(generator, z, label, memory=memory)
        return J.column_block(0, products).permute(2, 0, 1)

    def transposes() -> Tensor:
        J = ps.jacobian(generator, z, label, memory=memory)
        return (J.mT @ U.permute(1, 2, 0)).permute(2, 0, 1)

    directions = {
        "forward": Direction(
            columns,
            forward_peers(generator, z, label, products, memory, clock),
            push(exact, z.double(), V[checked].double()),
        ),
        "adjoint": Direction(
            transposes,
            adjoint_peers(generator, z, label, U, memory, clock),
            pull(exact, z.double(), U[checked].double()),
        ),
    }
    size = GEMM[device]
    a = torch.randn(size, size, device=device)
    calls: dict[str, Callable[[], Tensor]] = {"gemm": lambda: a @ a}
    for way, direction in directions.items():
        calls[way] = direction.ours
        calls.update({f"{way} {peer.name}": peer.run for peer in direction.running})
    if device == "cuda":
        for way, cuda_graph in (("held", False), ("replayed", True)):
            calls[way] = _columns_of_one(generator, z, label, products, memory, cuda_graph)
    times = in_turns(calls, clock)
    sides = {way: _side(way, direction, times) for way, direction in directions.items()}
    flops = counter.get_total_flops() * products
    per_flop = Spread.of(times["gemm"]).median / (2 * size**3)
    graphs = {}
    if device == "cuda":
        truth = directions["forward"].truth
        graphs["graphs"] = {
            "held_seconds": asdict(Spread.of(times["held"])),
            "replayed_seconds": asdict(Spread.of(times["replayed"])),
            "ratio": asdict(ratio(times["held"], times["replayed"])),
            "error": _error(calls["replayed"](), truth),
        }
    return {
        "name": name,
        "generator": generator.name,
        "latents": batch,
        "dim": dim,
        "products": products,
        "flops": flops,
        "bound_seconds": flops * per_flop,
        "part_of_bound": flops / (2 * size**3) * ratio(times["gemm"], times["forward"]).median,
        "adjoint_over_forward": ratio(times["adjoint"], times["forward"]).median,
        **{way: asdict(side) for way, side in sides.items()},
        **graphs,
    }


def _columns_of_one(
    generator: ps.Generator, z: Tensor, label: Tensor | None, products: int, memory: int, cuda_graph: bool
) -> Callable[[], Tensor]:
    """Columns of an operator that is kept: products alone, replayed from their recording or launched."""
    J = ps.jacobian(generator, z, label, memory=memory, cuda_graph=cuda_graph)
    return lambda: J.column_block(0, products).permute(2, 0, 1)


def _error(found: Tensor, truth: Tensor) -> float:
    """Of the worst of the products that the truth has, relative to its norm."""
    difference = (found[: len(truth)].double() - truth).norm(dim=2)
    return float((difference / truth.norm(dim=2)).max())


def _side(way: str, direction: Direction, times: dict[str, list[float]]) -> Side:
    ours, running, truth = direction.ours, direction.running, direction.truth
    measured = {peer.name: Spread.of(times[f"{way} {peer.name}"]).median for peer in running}
    best = min(running, key=lambda peer: measured[peer.name])
    peer_times = times[f"{way} {best.name}"]
    estimated = {peer.name: peer.seconds for peer in direction.peers}
    error, peer_error = (_error(found, truth) for found in (ours(), best.run()))
    return Side(
        Spread.of(times[way]),
        best.name,
        Spread.of(peer_times),
        {name: seconds for name, seconds in (estimated | measured).items() if name != best.name},
        error,
        peer_error,
        peak_bytes(ours, truth.device.type),
        peak_bytes(best.run, truth.device.type),
        ratio(peer_times, times[way]),
    )


def in_turns(calls: Mapping[str, Callable[[], object]], clock: Clock) -> dict[str, list[float]]:
    """Seconds of each by round; a round runs every call once, so that a slower machine slows all."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for done in range(ROUNDS.stop - 1):
        if done >= ROUNDS.start and time.perf_counter() - begin > SECONDS:
            break
        for name, call in calls.items():
            seconds[name].append(seconds_of(call, clock))
    return seconds
