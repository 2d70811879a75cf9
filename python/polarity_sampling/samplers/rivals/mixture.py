"""A fraction from each of several samplers, such as base draws with some MaGNET draws among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polarity_sampling.samplers import selection
from polarity_sampling.samplers.arguments import checked_count, checked_seed
from polarity_sampling.samplers.draw import Diagnostics, Draw
from polarity_sampling.samplers.protocol import Label, Sampler
from polarity_sampling.samplers.strata import requested_labels


@dataclass(frozen=True, eq=False)
class MixtureDraw(Draw):
    """Draws of several samplers in random order; log_weights and row_ids are those of each draw's sampler."""

    component: Tensor
    """int64 [n]: which sampler a draw is from."""
    parts: tuple[Diagnostics, ...]
    """Diagnostics of each sampler that was asked for draws, in their order."""


class MixtureSampler:
    """Shares of a draw come from different samplers.

    Args:
        samplers: of the same generator.
        shares: one of each, positive; they are normalised. n draws are split exactly, up to rounding.
        num_classes: of the generator; None for an unconditional one.

    Raises ValueError where lengths differ or a share is not positive.
    """

    def __init__(
        self, samplers: Sequence[Sampler], shares: Sequence[float], num_classes: int | None = None
    ) -> None:
        if len(samplers) != len(shares) or not samplers:
            raise ValueError(f"{len(samplers)} samplers, {len(shares)} shares: expected one share for each")
        if not all(math.isfinite(share) and share > 0.0 for share in shares):
            raise ValueError(f"shares={list(shares)}: expected positive numbers")
        self.samplers = tuple(samplers)
        self.shares = tuple(share / sum(shares) for share in shares)
        self.num_classes = num_classes

    def sample(self, n: int, seed: int = 0, label: Label = None) -> MixtureDraw:
        """Draw n latents; each sampler gets the labels of its draws and a seed of its own, made of `seed`.

        With one seed for all, samplers of one law would draw the same latents.

        Raises what the samplers raise; TypeError, ValueError for an argument out of range, or samplers of
        different generators.
        """
        n, seed = checked_count("n", n), checked_seed(seed)
        if label is not None and self.num_classes is None:
            raise ValueError(
                f"label={label!r}: this is a mixture for an unconditional generator; for a conditional one "
                "give MixtureSampler num_classes="
            )
        labels = requested_labels(label, n, self.num_classes)
        edges = np.rint(n * np.cumsum([0.0, *self.shares])).astype(np.int64)
        order = torch.from_numpy(np.argsort(selection.uniforms(seed, selection.SHUFFLE, n), kind="stable"))
        component = torch.empty(n, dtype=torch.int64)
        draws: list[Draw] = []
        slots = []
        for index, sampler in enumerate(self.samplers):
            own = order[edges[index] : edges[index + 1]]
            if len(own):
                wanted = None if labels is None else torch.from_numpy(labels)[own]
                component[own] = index
                draws.append(sampler.sample(len(own), _seed(seed, index), wanted))
                slots.append(own)
        _require_one_kind(draws)
        back = torch.argsort(torch.cat(slots))
        parts = tuple(draw.diagnostics for draw in draws)
        drawn = [draw.labels for draw in draws if draw.labels is not None]
        return MixtureDraw(
            latents=torch.cat([draw.latents for draw in draws])[back],
            labels=torch.cat(drawn)[back] if drawn else None,
            log_weights=torch.cat([draw.log_weights for draw in draws])[back],
            row_ids=torch.cat([draw.row_ids for draw in draws])[back],
            diagnostics=Diagnostics(
                n, sum(min(part.ess, part.n) for part in parts), sum(part.evaluations for part in parts)
            ),
            component=component,
            parts=parts,
        )


def _seed(seed: int, index: int) -> int:
    spawned = np.random.SeedSequence(seed, spawn_key=(index,))
    return int(spawned.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _require_one_kind(draws: Sequence[Draw]) -> None:
    kinds = {
        f"[{draw.latents.shape[1]}] {'without' if draw.labels is None else 'with'} labels" for draw in draws
    }
    if len(kinds) > 1:
        raise ValueError(
            f"the samplers draw latents of shapes {' and '.join(sorted(kinds))}: expected samplers of the "
            "same generator"
        )
