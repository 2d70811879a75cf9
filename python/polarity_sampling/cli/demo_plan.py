"""What the demo draws: which top_k and rho a bank can carry."""

from __future__ import annotations

from dataclasses import dataclass

from polarity_sampling.samplers import BankLike, choose_top_k, effective_sample_sizes

_LADDER = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)


@dataclass(frozen=True)
class Plan:
    """Draws at `rhos`, ascending; the last, 1, is MaGNET."""

    top_k: int
    rhos: tuple[float, ...]
    reason: str


def plan(bank: BankLike, draws: int) -> Plan:
    """Choose top_k and rho so that the effective sample size is at least `draws` for each of them.

    MaGNET (rho = 1) limits top_k from above. A smaller one at which rho = -1 holds as well is preferred;
    where there is none, rho < 0 stops short of -1.

    Raises SamplingError where not even the largest singular value alone allows MaGNET.
    """

    def smallest(top_k: int, rho: float) -> float:
        return float(effective_sample_sizes(bank, [-rho, rho], top_k).min())

    magnet = choose_top_k(bank, draws)
    for top_k in range(magnet, 0, -1):
        if smallest(top_k, 1.0) >= draws:
            reason = f"the most singular values at which the ESS of rho = -1 and of MaGNET is {draws} or more"
            return Plan(top_k, (-1.0, -0.5, 0.0, 0.5, 1.0), reason)
    reason = f"the most singular values at which the ESS of MaGNET is {draws} or more"
    for rho in _LADDER[1:]:
        if smallest(magnet, rho) >= draws:
            return Plan(magnet, (-rho, -rho / 2, 0.0, rho / 2, rho, 1.0), reason)
    return Plan(magnet, (0.0, 1.0), reason)
