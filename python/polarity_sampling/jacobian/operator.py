"""J @ V and J^T @ U for a batch of latents, without ever forming J unless asked to."""

import math
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

import polarity_ext
from polarity_sampling.errors import PolarityWarning
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.captured_route import CapturedRoute
from polarity_sampling.jacobian.compiled import NotCapturedError
from polarity_sampling.jacobian.explain import Explanation, explain
from polarity_sampling.jacobian.footprint import footprint
from polarity_sampling.jacobian.inputs import checked_inputs, generator_for
from polarity_sampling.jacobian.module_route import ModuleRoute
from polarity_sampling.jacobian.perceptron import GramWork
from polarity_sampling.jacobian.precision import (
    Precision,
    Primal,
    check_precision,
    check_primal,
)
from polarity_sampling.jacobian.scipy_operator import aslinearoperator
from polarity_sampling.memory import parse_memory
from polarity_sampling.precision import in_full_precision, in_grad_mode


@in_full_precision
def jacobian(
    generator: "Generator | nn.Module",
    z: Tensor,
    label: Tensor | int | None = None,
    *,
    memory: str | int = "1GiB",
    precision: Precision = "fp32",
    primal: Primal = "working",
    cuda_graph: bool = False,
) -> "JacobianOperator":
    """The Jacobian dG/dz of a generator at a batch of latents.

    Args:
        generator: a `Generator` or a plain module (then K is taken from z).
        z: latents [B, K], dtype of the generator.
        label: classes [B] int64 (or one class) of a conditional generator.
        memory: budget for what products take beside their result: what the forward pass leaves for them,
            weights rearranged for them, and tangents in flight, of one probe at least. Probes are worked off
            in chunks that fit; a forward pass that would leave more than two fifths is run for each
            product anew.
        precision: of the multiplications of tangents by weights: "fp32" (the generator's own), "tf32" (CUDA),
            "bf16". The forward pass, with its activations, is not touched. Only where the module can be
            captured; otherwise ValueError.
        primal: precision of the forward pass, which decides on which side of its kink an activation is:
            that of the generator ("working"), or "float64", for one more forward pass or so; products stay
            as precise and as fast as they are. Only where the module can be captured and runs in float64;
            otherwise ValueError.
        cuda_graph: replay the tangent program as CUDA graphs, one for each shape of probes (CUDA).

    Returns:
        A `JacobianOperator` of shape (B, D, K), D the size of one flattened sample.

    Raises:
        ValueError, TypeError: z or label does not fit the generator.
        GeneratorError: samples are not functions of their own latent alone, weights are not finite, ...

    Example:
        >>> J = ps.jacobian(g, z)          # z [B, K]
        >>> tangents = J @ V               # V [B, K, L] or [K, L] -> [B, D, L]
        >>> cotangents = J.mT @ U          # U [B, D, L] or [D, L] -> [B, K, L]
    """
    generator = generator_for(generator, z, label)
    z, labels = checked_inputs(generator, z, label)
    return JacobianOperator(generator, z, labels, parse_memory(memory), precision, cuda_graph, primal)


class JacobianOperator:
    """J of shape (B, D, K); made by `jacobian`.

    For libraries that wrap linear operators (curvlinops, linear_operator): ``shape``, ``dtype``, ``device``,
    ``J @ V`` with V [B, K, L] or [K, L], ``J.mT @ U`` with U [B, D, L] or [D, L], ``rows(index)``; all
    products are linear, deterministic and without a graph. Products may be formed in several threads at once,
    under ``torch.no_grad`` and inside ``torch.inference_mode``.

    The generator is captured once as a graph of ATen operators. Products send tangents through its linear
    stages, with the probes folded in front of the batch: shared weights see one large batch of L x B.
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
        check_precision(precision, z.dtype, z.device)
        check_primal(primal)
        if cuda_graph and z.device.type != "cuda":
            raise ValueError(
                f"cuda_graph is True, but the generator is on '{z.device}', which has no CUDA graphs"
            )
        self._precision, self._cuda_graph, self._primal = precision, cuda_graph, primal
        self.generator = generator
        self.z = _outside_inference(z)
        self.label = label
        self._memory = memory
        self._lock = threading.Lock()
        self._route: CapturedRoute | None = None
        self._refused: str | None = None
        found = footprint(generator, self.z, label)
        self._module = ModuleRoute(generator, self.z, label, found, memory)
        self.shape = torch.Size((z.shape[0], found.dim_out, z.shape[1]))
        self.dtype = found.dtype
        self.device = z.device

    def __repr__(self) -> str:
        return f"JacobianOperator{tuple(self.shape)} of {self.generator!r}"

    @property
    def mT(self) -> "AdjointOperator":
        """The adjoint, of shape (B, K, D)."""
        return AdjointOperator(self)

    @in_full_precision
    @in_grad_mode
    def __matmul__(self, tangents: Tensor) -> Tensor:
        """``J @ V``: V [B, K, L], or [K, L] for the same probes at every latent -> [B, D, L].

        The result is stored probe-major ([L, B, D] in memory), the layout `polarity_ext.gram` reads
        without a transpose.
        """
        batch, _, dim_in = self.shape
        probes = _probes("V", tangents, batch, dim_in, "K", self.z)
        captured = self._captured()
        out = captured.push(probes) if captured is not None else self._module.push(probes)
        return out.permute(1, 2, 0)

    @in_full_precision
    @in_grad_mode
    def in_float64(self, tangents: Tensor) -> Tensor:
        """``J @ V`` with products in float64, too, for V [K, L] or [B, K, L] float64 -> [B, D, L].

        Of an operator with ``primal="float64"``, whose forward pass serves both precisions: what its own
        products differ by is their rounding and nothing else.

        Raises:
            ValueError: the operator has another primal.
        """
        if self._primal != "float64":
            raise ValueError(
                f"the operator has primal={self._primal!r}; expected 'float64': make it by "
                "jacobian(..., primal='float64')"
            )
        batch, _, dim_in = self.shape
        probes = _probes("V", tangents, batch, dim_in, "K", self.z, torch.float64)
        captured = self._captured()
        assert captured is not None
        return captured.push_in_float64(probes).permute(1, 2, 0)

    @in_full_precision
    @in_grad_mode
    def gram_in_float64(self, tangents: Tensor) -> tuple[Tensor, Tensor] | None:
        """``(J V)^T (J V)`` [B, L, L] in float64 throughout, without J V, for V as of `in_float64`.

        The generator is a perceptron on a CPU, and behind its last hidden layer all that counts is the Gram
        matrix of the columns of its last layer that are in use (`polarity_ext.mlp_gram`).

        Returns:
            None for other generators. The Gram matrices, and what their rounding is relative to, [B].
        """
        captured = self._captured()
        if captured is None:
            return None
        batch, _, dim_in = self.shape
        probes = _probes("V", tangents, batch, dim_in, "K", self.z, torch.float64)
        return captured.gram_in_float64(probes)

    def gram_work(self, probes: int) -> GramWork | None:
        """What Gram matrices of so many probes cost at these latents; None where `gram_in_float64` does."""
        captured = self._captured()
        return None if captured is None else captured.gram_work(probes)

    def to_dense(self) -> Tensor:
        """J itself, [B, D, K] (K products)."""
        return self.column_block(0, self.shape[2])

    def column_block(self, start: int, stop: int) -> Tensor:
        """Columns start..stop of J, [B, D, stop - start]: derivatives by those latent coordinates."""
        dim = self.shape[2]
        if not 0 <= start < stop <= dim:
            raise ValueError(f"columns {start}..{stop} are not a range within 0..{dim}")
        return self @ torch.eye(dim, dtype=self.z.dtype, device=self.device)[:, start:stop]

    def gram(self, accumulate: Literal["float64", "float32"] = "float64") -> Tensor:
        """``J^T J``, [B, K, K], formed for as many latents at a time as fit the memory budget.

        Args:
            accumulate: precision of products and sums, and of the result. float32 loses half the digits of
                every singular value.
        """
        if accumulate not in ("float64", "float32"):
            raise ValueError(f"accumulate is {accumulate!r}; expected 'float64' or 'float32'")
        parts = []
        for dense in self._dense_parts():
            if accumulate == "float64":
                parts.append(polarity_ext.gram(dense))
            else:
                parts.append((dense.mT @ dense).float())
        return torch.cat(parts)

    def column_norms(self) -> Tensor:
        """Norms of the columns of J, [B, K] float64: how far each latent coordinate moves a sample."""
        norm = torch.linalg.vector_norm
        return torch.cat([norm(dense, dim=1, dtype=torch.float64) for dense in self._dense_parts()])

    def _dense_parts(self) -> Iterator[Tensor]:
        batch, dim_out, dim_in = self.shape
        count = max(1, self._memory // (2 * dim_out * dim_in * self.dtype.itemsize))
        for index in torch.arange(batch, device=self.device).split(count):
            yield (self if count >= batch else self.rows(index)).to_dense()

    def rows(self, index: Tensor) -> "JacobianOperator":
        """The Jacobian at the latents ``index`` (int64) alone, in that order."""
        label = None if self.label is None else self.label[index]
        return JacobianOperator(
            self.generator,
            self.z[index],
            label,
            self._memory,
            self._precision,
            self._cuda_graph,
            self._primal,
        )

    def explain(self) -> Explanation:
        """What products are made of: stages with their operators, share of work, and whether by a rule."""
        captured = self._captured()
        rows = () if captured is None else explain(captured.blocks[0].program)
        return Explanation(self.route, self._refused, rows)

    def aslinearoperator(self) -> Any:
        """``scipy.sparse.linalg.LinearOperator`` of shape (B D, B K), block-diagonal over the latents.

        For one latent take ``J.rows(torch.tensor([i])).aslinearoperator()``. Vectors are NumPy arrays on the
        CPU. Needs SciPy.
        """
        return aslinearoperator(self)

    @property
    def chunk(self) -> int:
        """Probes handled at a time within the memory budget; at least one."""
        captured = self._captured()
        return self._module.chunk if captured is None else captured.chunk

    @property
    def flops(self) -> float:
        """Floating-point operations of a product with one vector at one latent; inf where that is not known
        (the generator is not captured)."""
        captured = self._captured()
        return math.inf if captured is None else captured.flops

    def work(self, probes: int) -> float:
        """Time of products with so many vectors at one latent, in multiplications at the pace of a matrix
        product; an estimate by the kernels that are used, inf where the generator is not captured."""
        captured = self._captured()
        return math.inf if captured is None else captured.work(probes)

    @property
    def route(self) -> Literal["captured", "torch.func", "autograd"]:
        """How products are formed: by the captured program; where the module cannot be captured by
        torch.func; where it refuses that as well by plain autograd."""
        return self._module.name if self._captured() is None else "captured"

    def _captured(self) -> CapturedRoute | None:
        with self._lock:
            if self._route is None and self._refused is None:
                self._capture()
            return self._route

    @in_full_precision
    @in_grad_mode
    def _capture(self) -> None:
        try:
            self._route = CapturedRoute(
                self.generator,
                self.z,
                self.label,
                self._memory,
                self._precision,
                self._cuda_graph,
                self._primal,
            )
        except NotCapturedError as error:
            self._refused = str(error)
            if self._precision != "fp32" or self._cuda_graph or self._primal != "working":
                raise NotCapturedError(
                    f"{self.generator.name} cannot be captured ({error}), so neither precision, "
                    "primal nor cuda_graph can be chosen; leave them out"
                ) from error
            self._warn_once(str(error))

    def _warn_once(self, reason: str) -> None:
        if self.generator.module not in _not_captured:
            _not_captured.add(self.generator.module)
            warnings.warn(
                f"{self.generator.name} cannot be captured ({reason}): products go through torch.func, which "
                "is right but slower",
                PolarityWarning,
                stacklevel=9,
            )


# Modules of which it has been said that they cannot be captured.
_not_captured: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


class AdjointOperator:
    """J^T of shape (B, K, D): ``J.mT @ U``."""

    def __init__(self, forward: JacobianOperator) -> None:
        self._forward = forward
        batch, dim_out, dim_in = forward.shape
        self.shape = torch.Size((batch, dim_in, dim_out))

    @property
    def mT(self) -> JacobianOperator:
        """J again."""
        return self._forward

    @in_full_precision
    @in_grad_mode
    def __matmul__(self, cotangents: Tensor) -> Tensor:
        """``J^T @ U``: U [B, D, L], or [D, L] for the same cotangents at every latent -> [B, K, L]."""
        forward = self._forward
        batch, _, dim_out = self.shape
        probes = _probes("U", cotangents, batch, dim_out, "D", forward.z, forward.dtype)
        captured = forward._captured()
        out = captured.pull(probes) if captured is not None else forward._module.pull(probes)
        return out.permute(1, 2, 0)


def _outside_inference(t: Tensor) -> Tensor:
    """A tensor like t without a history, of which there can be derivatives."""
    if not t.is_inference():
        return t.detach()
    with torch.inference_mode(False):
        return t.clone()


def _probes(
    name: str,
    probes: Tensor,
    batch: int,
    dim: int,
    dim_name: str,
    z: Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Probes as [L, B, dim], or [L, 1, dim] where they are the same for every latent."""
    leading = (dim,) if isinstance(probes, Tensor) and probes.ndim == 2 else (batch, dim)
    if not isinstance(probes, Tensor) or probes.shape[:-1] != leading or probes.shape[-1] == 0:
        wanted = f"[{batch}, {dim}, L] or [{dim}, L] ({dim_name} = {dim})"
        if not isinstance(probes, Tensor):
            raise TypeError(f"{name} is a {type(probes).__name__}; expected a tensor {wanted}")
        raise ValueError(f"{name} has shape {list(probes.shape)}; expected {wanted}")
    expected = dtype or z.dtype
    if probes.dtype != expected or probes.device != z.device:
        raise TypeError(
            f"{name} is {probes.dtype} on {probes.device}; expected {expected} on {z.device}: pass "
            f"{name}.to({expected}).to('{z.device}')"
        )
    probes = _outside_inference(probes)
    return probes.T[:, None] if probes.ndim == 2 else probes.permute(2, 0, 1)
