"""Polarity sampling on a bank."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from polarity_sampling.errors import PolarityWarning, SamplingError
from polarity_sampling.laws import Law
from polarity_sampling.samplers import selection
from polarity_sampling.samplers.advice import advice
from polarity_sampling.samplers.arguments import (
    checked_count,
    checked_rho_and_ess,
    checked_seed,
    checked_top_k,
)
from polarity_sampling.samplers.diagnostics import diagnose
from polarity_sampling.samplers.draw import BankDiagnostics, BankDraw
from polarity_sampling.samplers.protocol import BankLike, Label
from polarity_sampling.samplers.selection import Floats, Ints
from polarity_sampling.samplers.strata import Stratum, requested_labels, stratify
from polarity_sampling.samplers.weights import (
    Flagged,
    Target,
    Tilt,
    build_tilt,
    effective_size,
    log_ratio,
    tempered_rho,
    tilted,
)

Method = Literal["systematic", "multinomial"]


class PolaritySampler:
    """Draws rows of a bank with law target(z) · vol(z)^rho (Humayun et al., arXiv 2203.01993).

    rho < 0 concentrates on modes (quality), rho > 0 on anti-modes (diversity), rho = 0 is the target itself.

    Args:
        bank: N latents with their singular values.
        rho: polarity, a finite number. "auto": as near to 1, MaGNET, as `min_ess` allows.
        top_k: log-volume over this many leading singular values; None: all that the bank stores.
        target: law to tilt. "base" (what None means): the generator's own latent law, as in the published
            code. "uniform": uniform on `region`, by reweighting where the bank's rows were not drawn so.
            "proposal": the law that the rows were drawn from, such as a narrower normal.
        region: a uniform law; None: the law the bank was drawn from if that is uniform, else the region that
            holds 99.9% of the base law.
        flagged: "drop" leaves out rows whose log-volume is below the noise floor (they are counted in
            diagnostics.excluded), "keep" takes their floored value.
        min_ess: temper: move rho towards 0 until the bank's effective sample size is at least this many rows.
            `sampler.rho` is then what was reached. None: take rho as it is.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of range.
        SamplingError: more than 1% of the rows are below the noise floor (the message names a top_k that
            works), no row has weight, or `min_ess` is not reached even at rho = 0.

    Warns:
        PolarityWarning: target="uniform" on a bank whose rows were not drawn from a uniform law.
    """

    def __init__(
        self,
        bank: BankLike,
        rho: float | Literal["auto"],
        top_k: int | None = None,
        *,
        target: Target | None = None,
        region: Law | None = None,
        flagged: Flagged = "drop",
        min_ess: float | None = None,
    ) -> None:
        if flagged not in ("drop", "keep"):
            raise ValueError(f"flagged={flagged!r}: expected 'drop' or 'keep'")
        wanted = checked_rho_and_ess(rho, min_ess)
        self.bank = bank
        self.top_k = checked_top_k(top_k, bank)
        self.flagged: Flagged = flagged
        self._log_ratio = log_ratio(bank, target or "base", region)
        self._tilt = self._tilt_at(self.top_k)
        self.rho = (
            wanted
            if min_ess is None
            else tempered_rho(self._tilt.log_volume, self._tilt.log_ratio, wanted, min_ess)
        )

    def _tilt_at(self, top_k: int) -> Tilt:
        return build_tilt(self.bank, top_k, self._log_ratio, self.flagged)

    @property
    def ess(self) -> float:
        """Effective sample size of the weights over the whole bank, in rows."""
        return effective_size(tilted(self._tilt.log_volume, self._tilt.log_ratio, self.rho))

    def weights(self) -> Tensor:
        """Weight of every bank row in joint draws: float64 [N], summing to one, zero for rows left out."""
        weights = torch.zeros(len(self.bank), dtype=torch.float64)
        log_weights = tilted(self._tilt.log_volume, self._tilt.log_ratio, self.rho)
        weights[torch.from_numpy(self._tilt.rows)] = torch.from_numpy(np.exp(log_weights))
        return weights

    def diagnose(self) -> BankDiagnostics:
        """Diagnostics of the weights in joint draws, without drawing: n = 0, realised_rho = rho."""
        strata = stratify(self._tilt, None, 1)
        return diagnose(
            strata, [strata[0].log_weights(self.rho)], self.rho, len(self.bank), self._tilt.excluded
        )

    def sample(
        self,
        n: int,
        seed: int = 0,
        label: Label = None,
        replace: bool = True,
        method: Method = "systematic",
    ) -> BankDraw:
        """Draw n latents; the same arguments give the same draw, bit for bit.

        Args:
            n: number of draws, at least 1.
            seed: stream of random numbers, 0 <= seed < 2^63. It may equal the bank's.
            label: for conditional banks. One class, a sequence of classes (repeated cyclically, so n entries
                give one per draw) or "balanced" (all classes in turn): rows are weighed within each class.
                None: joint draws over (z, label).
            replace: True draws with replacement: a row may come up more than once. False draws distinct rows
                one after the other, which pulls the realised rho towards 0 when n is not small against the
                ESS.
            method: with replacement, "systematic" (least variance; shuffled) or "multinomial" (independent).

        Returns:
            BankDraw with n rows; with `label=` draw i has the i-th class asked for.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: an argument out of range.
            SamplingError: a class without rows, or without replacement more draws than rows with weight.

        Warns:
            PolarityWarning: the effective sample size is below n, with what to do about it.
        """
        n, seed = checked_count("n", n), checked_seed(seed)
        if method not in ("systematic", "multinomial"):
            raise ValueError(f"method={method!r}: expected 'systematic' or 'multinomial'")
        labels = requested_labels(label, n, self.bank.num_classes)
        strata = stratify(self._tilt, labels, n)

        rows = np.empty(n, dtype=np.int64)
        log_weights, log_volume = np.empty(n), np.empty(n)
        within = [stratum.log_weights(self.rho) for stratum in strata]
        for stratum, weights in zip(strata, within, strict=True):
            chosen = _choose(stratum, weights, seed, replace, method)
            rows[stratum.slots] = stratum.rows[chosen]
            log_weights[stratum.slots] = weights[chosen]
            log_volume[stratum.slots] = stratum.log_volume[chosen]

        diagnostics = diagnose(strata, within, self.rho, len(self.bank), self._tilt.excluded, log_volume)
        message = advice(
            strata,
            lambda top_k: stratify(self._tilt_at(top_k), labels, n),
            diagnostics,
            rho=self.rho,
            top_k=self.top_k,
            bank_rows=len(self.bank),
            replace=replace,
        )
        if message:
            warnings.warn(message, PolarityWarning, stacklevel=2)
        positions = torch.from_numpy(rows)
        row_ids = self.bank.row_ids[positions]
        return BankDraw(
            latents=self.bank.latents(row_ids),
            labels=None if self.bank.labels is None else self.bank.labels[positions],
            log_weights=torch.from_numpy(log_weights),
            row_ids=row_ids,
            diagnostics=diagnostics,
        )


def _choose(stratum: Stratum, log_weights: Floats, seed: int, replace: bool, method: Method) -> Ints:
    """Indices into the stratum's rows, one per slot."""
    wanted = len(stratum.slots)
    of_class = "" if stratum.label is None else f" of class {stratum.label}"
    if not replace:
        available = int(np.isfinite(log_weights).sum())
        if wanted > available:
            raise SamplingError(
                f"{wanted} draws{of_class} without replacement from {available} rows with weight: ask for "
                f"at most {available}, draw with replacement, or build a larger bank"
            )
        return selection.without_replacement(log_weights, wanted, seed, stratum.place)
    last = int(stratum.slots[-1])
    if method == "multinomial":
        numbers = selection.uniforms(seed, selection.MULTINOMIAL, last + 1)
        return selection.multinomial(log_weights, numbers[stratum.slots])
    which = 0 if stratum.label is None else 1 + stratum.label
    start = selection.uniforms(seed, selection.START + which, 1)[0]
    shuffle = selection.uniforms(seed, selection.SHUFFLE, last + 1)
    return selection.systematic(log_weights, float(start), shuffle[stratum.slots])
