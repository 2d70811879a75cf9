"""Products by captured programs: blocks of latents times chunks of probes."""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property

import torch
from torch import Tensor

from polarity_ext.ops.function import no_derivatives
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.compiled import NotCapturedError, compiled, in_float64
from polarity_sampling.jacobian.cuda_graph import GraphedProgram
from polarity_sampling.jacobian.footprint import footprint
from polarity_sampling.jacobian.lower import Lowered
from polarity_sampling.jacobian.perceptron import GramWork, Perceptron
from polarity_sampling.jacobian.precision import Precision, Primal, compute_dtype, tensor_cores
from polarity_sampling.jacobian.program import Program
from polarity_sampling.jacobian.stage import Residual

# Bytes of the largest tangent on a CPU. glibc gives blocks from 32 MiB on back to the system after every use
# and takes them page by page again; smaller ones it keeps.
CPU_BUFFER = 28 << 20
_SHOWN = (32 << 20) - (64 << 10)
# The part of the budget that what primal passes keep may take, beyond which they are run anew for each
# product; and the part for rearranged weights, beyond which those stay as they are.
KEPT = REARRANGED = 0.4
# Probes for every latent of a block, at least where it can be: the factors of a latent are read once for all.
PROBES = 16


@dataclass(frozen=True)
class _Kept:
    """What a primal pass keeps for the links."""

    exact: list[Residual]
    """In the precision of the pass."""
    dtype: torch.dtype
    """Of tangents."""

    @cached_property
    def working(self) -> list[Residual]:
        """In that of tangents."""
        return [tuple(self._rounded(part) for part in residual) for residual in self.exact]

    def _rounded(self, part: Tensor) -> Tensor:
        return part.to(self.dtype) if part.dtype == torch.float64 else part


@dataclass
class _Block:
    """Some latents, and what is known of them."""

    rows: slice
    inputs: tuple[Tensor, ...]
    """Latents, in the precision of the primal pass, and classes."""
    dtype: torch.dtype
    """Of tangents."""
    program: Lowered
    double: Lowered | None
    """The same in float64, where the primal pass is to be its."""
    kept: _Kept | None = None
    graphs: dict[tuple[Program, torch.Size], GraphedProgram] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def kept_bytes(self) -> int:
        """Of what a primal pass keeps."""
        return self.program.residual_bytes + (0 if self.double is None else self.double.residual_bytes)

    @property
    def weight_bytes(self) -> int:
        """Of rearranged weights."""
        double = 0 if self.double is None else self.double.push_bytes
        return self.program.push_bytes + self.program.pull_bytes + double

    def parts(self, exact: bool, keep: bool) -> tuple[Lowered, list[Residual]]:
        """The programs and what they need.

        Args:
            exact: both in float64.
            keep: the primal pass is run at the first product, by whichever thread comes first, and not for
                every product anew.
        """
        if keep:
            with self.lock:
                if self.kept is None:
                    self.kept = self._primal()
                kept = self.kept
        else:
            kept = self._primal()
        if not exact:
            return self.program, kept.exact if self.double is None else kept.working
        assert self.double is not None
        return self.double, kept.exact

    def _primal(self) -> _Kept:
        program = self.program if self.double is None else self.double
        with torch.no_grad(), no_derivatives():
            return _Kept(program.primal(*self.inputs)[1], self.dtype)


class CapturedRoute:
    """Products for latents z [B, K].

    Args:
        memory: budget, bytes: for what the primal pass keeps, for rearranged weights and for tangents in
            flight.
        precision: of the multiplications of tangents by weights.
        cuda_graph: replay recorded programs.
        primal: whose forward pass decides masks and slopes: float64's, or that of z's precision.

    Raises:
        NotCapturedError: the module must go another way.
    """

    def __init__(
        self,
        generator: Generator,
        z: Tensor,
        label: Tensor | None,
        memory: int,
        precision: Precision = "fp32",
        cuda_graph: bool = False,
        primal: Primal = "working",
    ) -> None:
        twin = in_float64(generator) if primal == "float64" and z.dtype != torch.float64 else None
        self._precision, self._cuda_graph = precision, cuda_graph
        compute = compute_dtype(precision)
        self._buffer = memory
        if z.device.type == "cpu":
            self._buffer = CPU_BUFFER
            _keep_what_is_freed()
        found = footprint(generator, z, label)
        self._batch = z.shape[0]
        self._latents, self._samples = (z.shape[1], z.dtype), (found.dim_out, found.dtype)
        pairs = min(memory // found.bytes_per_tangent, self._buffer // found.widest)
        probes = min(PROBES, z.shape[1] + 1)  # all, and one for a check
        size = 1 << max(1, pairs // probes).bit_length() - 1
        self.blocks: list[_Block] = []
        start, lean = 0, 0  # without rearranged weights: 1 in float64, which multiplies least; 2 at all
        while start < z.shape[0]:
            # Powers of two, so that a few captures serve batches of every size.
            rows = slice(start, start + min(size, 1 << (z.shape[0] - start).bit_length() - 1))
            some = z if rows.stop - rows.start == z.shape[0] else z[rows]
            classes = None if label is None else label[rows]
            program, double = compiled(generator, some, classes, compute, lean == 2), None
            if twin is not None:
                some = some.double()
                double = _same_stages(program, compiled(twin, some, classes, lean=lean > 0))
            inputs = (some,) if classes is None else (some, classes)
            block = _Block(rows, inputs, z.dtype, program, double)
            if size > 1 and block.kept_bytes > memory * KEPT:
                size //= 2
                continue
            if lean < 2 and block.weight_bytes > memory * REARRANGED:
                lean, start = (2 if twin is None else lean + 1), 0
                self.blocks.clear()
                continue
            self.blocks.append(block)
            start = rows.stop
        kept = [block.kept_bytes for block in self.blocks]
        self._keeps = cuda_graph or sum(kept) <= memory * KEPT  # recordings read where it lies
        weights = sum({block.program: block.weight_bytes for block in self.blocks}.values())
        self._for_tangents = memory - weights - (sum(kept) if self._keeps else max(kept))

    @property
    def chunk(self) -> int:
        """Probes that go together through `push`."""
        return self._chunk(self.blocks[0].program.push, self.blocks[0])

    @property
    def flops(self) -> float:
        """Floating-point operations of `push`, for one latent and probe."""
        block = self.blocks[0]
        whole = sum(link.stage.flops for link in block.program.links)
        return whole / block.inputs[0].shape[0]

    def work(self, probes: int) -> float:
        """`Stage.work` of ``push``, at one latent."""
        block = self.blocks[0]
        if block.program.constant:
            return 0.0
        parts = self._chunks(probes, self._chunk(block.program.push, block))
        return sum(block.program.push.work(part.stop - part.start) for part in parts)

    def push(self, probes: Tensor) -> Tensor:
        """Tangents [L, B or 1, K] -> [L, B, D]."""
        return self._apply("push", probes, *self._samples)

    def push_in_float64(self, probes: Tensor) -> Tensor:
        """The same in float64 throughout, by the forward pass of ``primal="float64"``."""
        return self._apply("push", probes, self._samples[0], torch.float64, exact=True)

    def gram_in_float64(self, probes: Tensor) -> tuple[Tensor, Tensor] | None:
        """`polarity_ext.mlp_gram`, so that what `push_in_float64` would return is not formed."""
        parts = []
        for block, perceptron, residual in self._perceptrons():
            given = probes if probes.shape[1] == 1 else probes[:, block.rows]
            with torch.no_grad(), no_derivatives():
                parts.append(perceptron.gram(residual, [given]))
        if len(parts) < 2:
            return parts[0] if parts else None
        grams, sizes = zip(*parts, strict=True)
        return torch.cat(grams), torch.cat(sizes)

    def gram_work(self, probes: int) -> GramWork | None:
        """What Gram matrices cost at these latents; None unless `gram_in_float64` is for them."""
        works = []
        for _, perceptron, residual in self._perceptrons():
            work = perceptron.gram_work(residual, probes)
            if 8 * probes * perceptron.widest_hidden > self._for_tangents:
                work = work._replace(layer=math.inf)
            works.append(work)
        return GramWork(*map(max, zip(*works, strict=True))) if works else None

    def _perceptrons(self) -> Iterator[tuple[_Block, Perceptron, Residual]]:
        """Blocks that are perceptrons, in float64; on CUDA the last layer is formed in any case."""
        for block in self.blocks:
            perceptron = None if block.double is None else block.double.perceptron
            if perceptron is not None and block.inputs[0].device.type == "cpu":
                yield block, perceptron, block.parts(True, self._keeps)[1][0]

    def pull(self, probes: Tensor) -> Tensor:
        """Cotangents [L, B or 1, D] -> [L, B, K]."""
        return self._apply("pull", probes, *self._latents)

    def _apply(
        self, direction: str, probes: Tensor, size: int, dtype: torch.dtype, exact: bool = False
    ) -> Tensor:
        shape = torch.Size((probes.shape[0], self._batch, size))
        if self.blocks[0].program.constant:
            return probes.new_zeros(shape, dtype=dtype)
        out: Tensor | None = None
        shared = probes.shape[1] == 1
        for block in self.blocks:
            lowered, residuals = block.parts(exact, self._keeps)
            program: Program = getattr(lowered, direction)
            given = probes if shared else probes[:, block.rows]
            for part in self._chunks(probes.shape[0], self._chunk(program, block)):
                some = given if part.stop - part.start == probes.shape[0] else given[part]
                with torch.no_grad(), no_derivatives(), tensor_cores(self._precision):
                    result = self._run(block, program, residuals, _laid_out(some, program))
                if result.dtype == dtype and _is_whole(result, shape, probes):
                    return result  # spares a copy, which of a small network costs as much as the product
                if out is None:
                    out = probes.new_empty(shape, dtype=dtype)
                out[part, block.rows] = result
                del result  # before the next one is made
            del residuals
        assert out is not None
        return out

    def _run(self, block: _Block, program: Program, residuals: list[Residual], probes: Tensor) -> Tensor:
        if not self._cuda_graph:
            return program.run(residuals, probes)
        with block.lock:  # a recording has one set of buffers
            key = program, probes.shape
            if key not in block.graphs:
                block.graphs[key] = GraphedProgram(program, residuals, probes)
            return block.graphs[key].run(probes).clone()

    def _chunk(self, program: Program, block: _Block) -> int:
        return max(1, min(self._for_tangents // program.bytes_per_probe, self._buffer // program.largest))

    @staticmethod
    def _chunks(count: int, size: int) -> Iterator[slice]:
        """Equal parts, so that no small rest runs at the speed of small products."""
        parts = -(-count // size)
        for i in range(parts):
            yield slice(i * count // parts, (i + 1) * count // parts)


@cache
def _keep_what_is_freed() -> None:
    """Has glibc give back nothing that the next batch takes again.

    It returns the free end of its heap once that is twice as large as the largest block that it has seen
    come and go (mallopt(3), M_MMAP_THRESHOLD). Until a product has freed its largest tangent that is little,
    and afterwards just about what a product frees: a batch later the same pages are taken again, one by one.
    So it is shown a block of the most that it goes by.
    """
    torch.empty(_SHOWN, dtype=torch.uint8)


def _same_stages(program: Lowered, double: Lowered) -> Lowered:
    """`double`, if its residuals are those that the stages of `program` expect."""
    if program.stages != double.stages:
        raise NotCapturedError("in float64 it runs other operations")
    return double


def _laid_out(probes: Tensor, program: Program) -> Tensor:
    """Each probe in one piece of memory, where that matters."""
    if program.any_strides or probes.is_contiguous():
        return probes
    # torch transposes a matrix faster than it permutes dimensions.
    return probes.flatten(1).contiguous().view(probes.shape)


def _is_whole(result: Tensor, shape: torch.Size, probes: Tensor) -> bool:
    """All that was asked for, in the layout that is promised and in memory of its own."""
    own = result.untyped_storage().data_ptr() != probes.untyped_storage().data_ptr()
    return result.shape == shape and result.is_contiguous() and own
