"""What a generator sees of a latent, where linear layers narrower than the latent come first."""

import math
import weakref
from collections import defaultdict

import torch
from torch import Tensor, nn

from polarity_sampling.generator import Generator, Version
from polarity_sampling.jacobian.compiled import NotCapturedError, compiled, in_float64
from polarity_sampling.jacobian.footprint import footprint
from polarity_sampling.jacobian.lower import Lowered
from polarity_sampling.jacobian.program import Link
from polarity_sampling.jacobian.stage import Stage

_Key = tuple[Version, bool]

_kept: "weakref.WeakKeyDictionary[nn.Module, tuple[_Key, Tensor | None]]" = weakref.WeakKeyDictionary()


def seen_directions(generator: Generator) -> Tensor | None:
    """An orthonormal basis Q [K, r], float64, of all that Jacobians see of R^K, where layers leave r < K.

    If nothing reads the latent but fixed linear maps with r rows in all, W [r, K], then J = J' W at every
    latent: J Q has the singular values of J but for K - r zeros, Q a basis of the row space of W. Rows are
    counted, and no rank is estimated. W is that of the network in float64; found once for every state of
    the weights.

    Returns:
        None where r >= K, and where the generator cannot be captured in float64, so that nothing is known.

    Raises:
        GeneratorError: as `Generator.check`.
    """
    key = generator.version(), generator.num_classes is None
    kept = _kept.get(generator.module)
    if kept is None or kept[0] != key:
        kept = (key, _find(generator))
        _kept[generator.module] = kept
    return kept[1]


@torch.inference_mode(False)
def _find(generator: Generator) -> Tensor | None:
    generator.check()
    z = generator.base.draw(0, torch.arange(1), generator.latent_dim).to(generator.device, generator.dtype)
    label = None if generator.num_classes is None else torch.zeros(1, dtype=torch.int64, device=z.device)
    if footprint(generator, z, label).narrowest >= generator.latent_dim:
        return None  # most generators: spares them a capture
    try:
        program = compiled(in_float64(generator), z.double(), label, lean=True)
    except NotCapturedError:
        return None
    if program.constant:
        return None
    rows, chains = _narrowest(program)
    if rows >= generator.latent_dim:
        return None
    identity = torch.eye(generator.latent_dim, dtype=torch.float64, device=z.device)
    with torch.no_grad():
        transposed = torch.cat([_through(chain, identity) for chain in chains], 1)
        basis: Tensor = torch.linalg.qr(transposed)[0]
    return basis


_Chain = tuple[Stage, ...]


def _narrowest(program: Lowered) -> tuple[int, list[_Chain]]:
    """The fewest numbers that a latent goes through by fixed linear maps, and the ways that lead to them.

    Of a program for a single latent.
    """
    source, target = program.ends
    readers: defaultdict[int, list[Link]] = defaultdict(list)
    needed = {target}
    for link in reversed(program.unfused):
        if not needed.isdisjoint(link.outputs):  # others make masks, or nothing
            needed.update(link.inputs)
            for slot in link.inputs:
                readers[slot].append(link)

    def narrowest(slot: int, chain: _Chain) -> tuple[int, list[_Chain]]:
        here = math.prod(program.shapes[slot]), [chain]
        if slot == target or not all(map(_is_fixed, readers[slot])):
            return here
        beyond = [narrowest(link.outputs[0], (*chain, link.stage)) for link in readers[slot]]
        there = sum(rows for rows, _ in beyond), [chain for _, chains in beyond for chain in chains]
        return min(here, there, key=lambda cut: cut[0])

    return narrowest(source, ())


def _is_fixed(link: Link) -> bool:
    """One tensor to one tensor, by weights alone: what works for all samples alike depends on none."""
    return link.stage.any_batch and len(link.inputs) == len(link.outputs) == 1


def _through(chain: _Chain, identity: Tensor) -> Tensor:
    """The matrix of a chain of fixed linear maps, transposed: [K, rows]."""
    tangents = identity[:, None]
    for stage in chain:
        (tangents,) = stage.push((), [tangents], False)
    return tangents.flatten(1).double()  # a module may compute in less
