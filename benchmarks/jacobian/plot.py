"""Cost of J @ V against the number of latents and of probes: it grows linearly in both."""

from pathlib import Path

import polarity_sampling as ps
import torch
from polarity_sampling.report import style

from benchmarks.devices import Clock
from benchmarks.jacobian.measure import in_turns
from benchmarks.jacobian.models import WORKLOADS
from benchmarks.jacobian.peers import best_chunk, push

LATENTS = (1, 2, 4, 8, 16)
PROBES = (5, 10, 25, 50, 100)


def plot(path: Path, memory: int, clock: Clock, device: str) -> None:
    generator, _, _ = WORKLOADS["dcgan"].on(device)
    by_latents = {batch: seconds(generator, batch, PROBES[-2], memory, clock) for batch in LATENTS}
    by_probes = {probes: seconds(generator, LATENTS[2], probes, memory, clock) for probes in PROBES}
    with style.styled():
        figure = style.new_figure(6.0, 2.6, "constrained")
        panels = zip(
            figure.subplots(1, 2),
            (by_latents, by_probes),
            (f"latents (L = {PROBES[-2]})", f"probes (B = {LATENTS[2]})"),
            strict=True,
        )
        for axes, points, label in panels:
            for name, colour in (("ours", style.rho_colour(-1)), ("vmap(jvp)", style.FAINT)):
                axes.plot(
                    list(points), [row[name] for row in points.values()], "o-", color=colour, label=name
                )
            axes.set(xlabel=label, ylabel="seconds", xlim=(0, None), ylim=(0, None))
            axes.legend()
        style.save(figure, path)


def seconds(generator: ps.Generator, batch: int, count: int, memory: int, clock: Clock) -> dict[str, float]:
    """Of J @ V for that many latents and probes: ours, and chunked vmap(jvp)."""
    random = torch.Generator().manual_seed(0)
    z = torch.randn(batch, generator.latent_dim, generator=random).to(generator.device)
    V = torch.randn(count, batch, generator.latent_dim, generator=random).to(generator.device)

    def product(part: torch.Tensor) -> torch.Tensor:
        return push(lambda z: generator.flat(z, None), z, part)

    chunk, _ = best_chunk(product, V, memory, clock)
    times = in_turns(
        {
            "ours": lambda: ps.jacobian(generator, z, memory=memory) @ V.permute(1, 2, 0),
            "vmap(jvp)": lambda: [product(part) for part in V.split(chunk)],
        },
        clock,
    )
    return {name: min(found) for name, found in times.items()}
