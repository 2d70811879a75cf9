"""The other ways to form Jacobian products of a generator in torch, each with its best chunk of probes.

Probes lie in front: tangents [L, B, K] and their images [L, B, D].
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from polarity_sampling import Generator
from torch import Tensor
from torch.func import jacfwd, jvp, vjp, vmap

from benchmarks.devices import Clock
from benchmarks.jacobian.memory import peak_bytes

Function = Callable[[Tensor], Tensor]

LONGEST_CHUNK = 2.0  # seconds; larger chunks are not tried


@dataclass(frozen=True)
class Peer:
    """One way, ready to run."""

    name: str
    run: Callable[[], Tensor]
    seconds: float
    """Estimated, from one chunk."""


def push(flat: Function, z: Tensor, tangents: Tensor) -> Tensor:
    """J @ V for all probes at once: vmap(jvp)."""
    with torch.no_grad():
        pushed: Tensor = vmap(lambda v: jvp(flat, (z,), (v,))[1])(tangents)
    return pushed


def pull(flat: Function, z: Tensor, cotangents: Tensor) -> Tensor:
    """J^T @ U for all probes at once: vmap(vjp)."""
    with torch.no_grad():  # of the weights, which would be recorded otherwise
        pullback = vjp(flat, z)[1]
        pulled: Tensor = vmap(lambda u: pullback(u)[0])(cotangents)
    return pulled


def columns(generator: Generator, z: Tensor, label: Tensor | None) -> Tensor:
    """All of J, as [K, B, D]: vmap(jacfwd) of one latent at a time."""

    def one(latent: Tensor, *classes: Tensor) -> Tensor:
        return generator.flat(latent[None], classes[0][None] if classes else None)[0]

    with torch.no_grad():
        whole: Tensor = vmap(jacfwd(one))(z, *(() if label is None else (label,)))
    return whole.permute(2, 0, 1)


def best_chunk(product: Function, probes: Tensor, memory: int, clock: Clock) -> tuple[int, float]:
    """The number of probes at a time for which one probe takes least; and the seconds of one probe.

    Only divisors of the number of probes, so that all chunks are equal, and none that takes more than
    `memory` bytes.
    """
    best, seconds, last = 1, float("inf"), 0
    for size in (n for n in range(1, len(probes) + 1) if len(probes) % n == 0):
        if size < 1.5 * last:
            continue
        last = size
        part = probes[:size]
        if peak_bytes(lambda part=part: product(part), part.device.type) > memory and size > 1:
            break
        each = min(seconds_of(lambda part=part: product(part), clock) for _ in range(3)) / size
        if each < seconds:
            best, seconds = size, each
        if each * size > LONGEST_CHUNK:
            break
    return best, seconds


def seconds_of(call: Callable[[], object], clock: Clock) -> float:
    start = clock()
    call()
    return clock() - start


def _chunked(name: str, product: Function, probes: Tensor, size: int, each: float) -> Peer:
    return Peer(
        f"{name}, {size} at a time",
        lambda: torch.cat([product(part) for part in probes.split(size)]),
        each * len(probes),
    )


def _with_and_without_compile(
    name: str, product: Function, probes: Tensor, memory: int, clock: Clock
) -> list[Peer]:
    size, each = best_chunk(product, probes, memory, clock)
    found = [_chunked(name, product, probes, size, each)]
    compiled = torch.compile(product, dynamic=False)
    try:
        compiled(probes[:size])
    except Exception as error:  # many a generator cannot be compiled under vmap
        reason = str(error).strip().splitlines() or [""]
        print(f"no torch.compile of {name}: {type(error).__name__}: {reason[0][:120]}")
    else:
        each = min(seconds_of(lambda: compiled(probes[:size]), clock) for _ in range(2)) / size
        found.append(_chunked(f"compiled {name}", compiled, probes, size, each))
    return found


def forward_peers(
    generator: Generator, z: Tensor, label: Tensor | None, products: int, memory: int, clock: Clock
) -> list[Peer]:
    """Every way to that many columns of J, [L, B, D], fastest first.

    jacrev and jacfwd give all columns; the latter is left out where fewer are wanted.
    """

    def flat(z: Tensor) -> Tensor:
        return generator.flat(z, label)

    batch, dim = z.shape
    like = {"dtype": z.dtype, "device": z.device}
    basis = torch.eye(dim, **like)[:products, None].expand(-1, batch, -1)
    with torch.no_grad():
        dim_out = flat(z).shape[1]
    rows = torch.eye(dim_out, **like)[:, None].expand(-1, batch, -1)
    found = _with_and_without_compile("vmap(jvp)", lambda part: push(flat, z, part), basis, memory, clock)
    if products == dim:
        whole = Peer("vmap(jacfwd)", lambda: columns(generator, z, label), 0.0)
        try:
            found.append(replace(whole, seconds=min(seconds_of(whole.run, clock) for _ in range(2))))
        except torch.OutOfMemoryError:  # it knows no chunks
            print(f"no {whole.name}: all products of {batch} latents at once do not fit on the device")
    by_rows = best_chunk(lambda part: pull(flat, z, part), rows, memory, clock)
    jacrev = _chunked("jacrev", lambda part: pull(flat, z, part), rows, *by_rows)
    found.append(replace(jacrev, run=lambda: jacrev.run().permute(2, 1, 0)[:products]))
    return sorted(found, key=lambda peer: peer.seconds)


def adjoint_peers(
    generator: Generator, z: Tensor, label: Tensor | None, cotangents: Tensor, memory: int, clock: Clock
) -> list[Peer]:
    """Every way to J^T @ U for cotangents [L, B, D], fastest first."""

    def flat(z: Tensor) -> Tensor:
        return generator.flat(z, label)

    found = _with_and_without_compile(
        "vmap(vjp)", lambda part: pull(flat, z, part), cotangents, memory, clock
    )
    return sorted(found, key=lambda peer: peer.seconds)
