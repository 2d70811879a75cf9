"""Polarity sampling without a bank: a population of latents that moves until it follows the target."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from polarity_sampling.errors import PolarityWarning
from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law, Sphere
from polarity_sampling.samplers.arguments import checked_count, checked_rho, checked_seed
from polarity_sampling.samplers.exact import ExactLogVolume
from polarity_sampling.samplers.protocol import Label
from polarity_sampling.samplers.smc import checkpoint as on_disk
from polarity_sampling.samplers.smc.diagnostics import SMCDiagnostics, SMCDraw, agreement, worst
from polarity_sampling.samplers.smc.rough import RoughLogVolume
from polarity_sampling.samplers.smc.state import State
from polarity_sampling.samplers.smc.summary import Summary
from polarity_sampling.samplers.smc.target import Target
from polarity_sampling.samplers.smc.tempering import Settings, init, step, take
from polarity_sampling.samplers.strata import requested_labels
from polarity_sampling.volume import auto_top_k


class SMCSampler:
    """Draws latents with law p(z) · vol(z)^rho by tempered sequential Monte Carlo (see docs/samplers.md).

    Unlike a bank it does not run out: draws keep coming, each as good as the last, at a price in log-volumes
    that does not grow with their number. rho = 1 with a uniform `law` is MaGNET (arXiv 2110.08009), any other
    rho Polarity Sampling (arXiv 2203.01993).

    Args:
        generator: a Generator, or a module whose latent dimension can be inferred.
        rho: polarity, a finite number.
        top_k: leading singular values in the log-volume; None for all, "auto" as in `ps.log_volume`.
        law: p, the law that is tilted; default the generator's base law. `g.base.region(g.latent_dim)` for
            MaGNET on a normal base; `ps.TruncatedNormal(c)` for rho together with truncation.
        particles: N, latents moved together. The first draws cost some 10 to 100 log-volumes for each;
            the surrogate learns from all of these, so that more particles make later draws cheaper. A hundred
            suit a few dozen draws from a generator whose log-volumes are dear.
        islands: groups of particles, a divisor of N, that are independent of each other apart from shared
            tuning, so that their agreement can be checked.
        surrogate: screen proposals by cheaper guesses: one that is learned on the way from latents and their
            forward passes, and, where a third of all products or less suffice for it, a rough log-volume
            along directions that latents share. The target is the same without; draws cost several times
            more.
        tol: wanted error of a log-volume, nats.
        memory: budget of the Jacobian products.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range.
        GeneratorError: the generator cannot be differentiated latent by latent.
    """

    def __init__(
        self,
        generator: Generator | nn.Module,
        rho: float,
        top_k: int | Literal["auto"] | None = "auto",
        *,
        law: Law | None = None,
        particles: int = 1024,
        islands: int = 4,
        surrogate: bool = True,
        tol: float = 1e-2,
        memory: str | int = "1GiB",
    ) -> None:
        self.generator = Generator.of(generator)
        self.generator.check()
        self.rho = checked_rho(rho)
        particles, islands = checked_count("particles", particles), checked_count("islands", islands)
        if particles % islands or particles < 8 * islands:
            raise ValueError(
                f"particles={particles}, islands={islands}: expected a multiple of the islands, at least 8 "
                "particles in each"
            )
        self.law = self.generator.base if law is None else Law.of(law)
        if isinstance(self.law, Sphere) != isinstance(self.generator.base, Sphere):
            raise ValueError(
                f"law={self.law!r} for latents of {self.generator.base!r}: one lives on a sphere and the "
                "other does not, so their volumes differ; give the generator the base law that is meant"
            )
        self.top_k = auto_top_k(self.generator, memory=memory) if top_k == "auto" else top_k
        self.settings = Settings(particles=particles, islands=islands, surrogate=bool(surrogate))
        self._evaluate = ExactLogVolume(self.generator, self.top_k, tol, memory)
        self.tol = tol
        self._summary = Summary.of(self.generator, self.law) if surrogate else None
        self._rough = RoughLogVolume.of(self.generator, self.top_k, self.rho, memory) if surrogate else None
        # The settled populations of the last seed asked for: a function of the seed, kept because it is dear.
        self._settled: dict[tuple[int, int | None], State] = {}

    def sample(self, n: int, seed: int = 0, label: Label = None) -> SMCDraw:
        """The first n draws of `stream(n, seed, label)`; the same arguments give the same draws.

        Args:
            n: number of draws, at least 1.
            seed: stream of random numbers, 0 <= seed < 2^63.
            label: for conditional generators, as in PolaritySampler.sample: each class asked for gets a
                population of its own, so that draws follow p(z | class) · vol(z)^rho within it. None: joint
                draws over (z, class) with all classes equally likely under p.

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            SamplingError: more than 1% of latents lie below the noise floor.

        Warns:
            PolarityWarning: the particles have not forgotten where they started.
        """
        return next(self.stream(n, seed, label))

    def stream(
        self, n: int | None = None, seed: int = 0, label: Label = None, checkpoint: str | Path | None = None
    ) -> Iterator[SMCDraw]:
        """Draws without end, n at a time.

        Args:
            n: as in `sample`; None: as many as there are particles.
            seed, label: as in `sample`.
            checkpoint: file in which the run is kept, sweep by sweep. The same call goes on from there, with
                the draws that would have come next; a batch counts as handed out once the following one is
                asked for.

        Raises:
            SamplingError: the checkpoint is damaged or of another run; else as `sample`.
            BankError: the checkpoint cannot be read or written.
        """
        n = self.settings.particles if n is None else checked_count("n", n)
        seed = checked_seed(seed)
        labels = requested_labels(label, n, self.generator.num_classes)
        return self._batches(n, seed, labels, None if checkpoint is None else Path(checkpoint))

    def _batches(self, n: int, seed: int, labels: Any, path: Path | None) -> Iterator[SMCDraw]:
        slots: dict[int | None, Tensor] = {None: torch.arange(n)}
        if labels is not None:
            wanted = torch.from_numpy(labels)
            slots = {int(c): (wanted == c).nonzero()[:, 0] for c in wanted.unique()}
        identity = self._identity(n, seed, labels) if path is not None else {}
        states = on_disk.load(path, identity) if path is not None and path.exists() else {}

        def save() -> None:
            if path is not None:
                on_disk.save(path, identity, states)

        for key in slots:
            target = self._target(key)
            kept = self._settled.get((seed, key)) if path is None else None
            state = kept or states.get(key) or init(target, _stream_seed(seed, key), self.settings)
            while not state.thin:
                states[key] = state = step(target, state, self.settings)
                save()
            states[key] = state
            if path is None:
                self._settled = {k: v for k, v in self._settled.items() if k[0] == seed} | {
                    (seed, key): state
                }
        self._warn_unsettled(states)
        while True:
            draw, states = self._draw(slots, states)
            yield draw
            save()

    def _draw(
        self, slots: dict[int | None, Tensor], states: dict[int | None, State]
    ) -> tuple[SMCDraw, dict[int | None, State]]:
        n = sum(len(s) for s in slots.values())
        latents = torch.empty(n, self.generator.latent_dim, dtype=torch.float32)
        labels = None if self.generator.num_classes is None else torch.empty(n, dtype=torch.int64)
        log_volumes = torch.empty(n, dtype=torch.float64)
        row_ids, islands, particles = (torch.empty(n, dtype=torch.int64) for _ in range(3))
        size = self.settings.particles // self.settings.islands
        after, found = {}, []
        for index, (key, slot) in enumerate(slots.items()):
            target = self._target(key)
            points, particle, after[key] = take(target, states[key], self.settings, len(slot))
            latents[slot], log_volumes[slot] = target.latents(points.x), points.log_volume
            row_ids[slot] = after[key].ancestor[particle]
            if labels is not None and points.label is not None:
                labels[slot] = points.label
            particles[slot] = index * self.settings.particles + particle
            islands[slot] = particles[slot] // size
            found.append(
                {
                    "log_volume": agreement(points.log_volume, islands[slot], particle),
                    "norm": agreement(latents[slot].double().norm(dim=1), islands[slot], particle),
                }
            )
        populations = [after[key] for key in slots]
        r = max(state.correlation for state in populations)
        moves = sum(state.moves for state in populations)
        diagnostics = SMCDiagnostics(
            n=n,
            ess=n * (1.0 - r) / (1.0 + r),
            evaluations=sum(state.evaluations for state in populations),
            screenings=sum(state.screenings for state in populations),
            correlation=r,
            acceptance=sum(state.accepted for state in populations) / moves if moves else math.nan,
            ladder=tuple(rung for state in populations for rung in state.ladder),
            unique_ancestors=sum(len(row_ids[slot].unique()) for slot in slots.values()),
            thin=max(state.thin for state in populations),
            excluded=sum(state.excluded for state in populations),
            agreement={name: worst([f[name] for f in found]) for name in found[0]},
        )
        log_weights = self.rho * log_volumes
        draw = SMCDraw(latents, labels, log_weights, row_ids, diagnostics, log_volumes, islands, particles)
        return draw, after

    def _target(self, key: int | None) -> Target:
        classes = None
        if self.generator.num_classes is not None:
            classes = tuple(range(self.generator.num_classes)) if key is None else (key,)
        return Target(
            self.law, self.generator.latent_dim, self.rho, self._evaluate, classes, self._summary, self._rough
        )

    def _identity(self, n: int, seed: int, labels: Any) -> dict[str, Any]:
        return {
            "weights": self.generator.weight_hash(),
            "rho": self.rho,
            "top_k": self.top_k,
            "tol": self.tol,
            "law": self.law.to_json(),
            "settings": dataclasses.asdict(self.settings),
            "n": n,
            "seed": seed,
            "labels": None if labels is None else labels.tolist(),
        }

    def _warn_unsettled(self, states: dict[int | None, State]) -> None:
        worst_state = max(states.values(), key=lambda state: state.correlation)
        if worst_state.correlation > self.settings.correlation:
            warnings.warn(
                f"after {worst_state.thin} sweeps particles still have a correlation of "
                f"{worst_state.correlation:.2f} with where they stood (wanted: at most "
                f"{self.settings.correlation:g}). Draws of one particle resemble each other: ask for at most "
                f"{self.settings.particles} of them, or choose a smaller |rho| or top_k",
                PolarityWarning,
                stacklevel=3,
            )


def _stream_seed(seed: int, key: int | None) -> int:
    """A stream for each class; none of them is the stream of a bank."""
    spawned = np.random.SeedSequence(seed, spawn_key=(0 if key is None else 1 + key,))
    return int(spawned.generate_state(1, np.uint64)[0] >> np.uint64(1))
