"""Tangents and cotangents of a whole multilayer perceptron, without the work for inactive units."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply, is_tracked


@torch.library.register_fake("polarity::mlp_tangents")
def _fake(v: Tensor, weights: list[Tensor], factors: list[Tensor], adjoint: bool) -> Tensor:
    widths = [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
    if adjoint:
        widths.reverse()
    name, argument = ("mlp_cotangents", "u") if adjoint else ("mlp_tangents", "v")
    batch = factors[0].shape[0]
    torch._check(
        v.dim() in (2, 3) and tuple(v.shape[1:]) in ((widths[0],), (batch, widths[0])),
        lambda: (
            f"{name}: {argument} must be [L, {widths[0]}] or [L, {batch}, {widths[0]}], got {list(v.shape)}"
        ),
    )
    return v.new_empty((v.shape[0], batch, widths[-1]))


for _device in ("cpu", "cuda"):  # the product inside must have the dtype of v: kernels read it as that
    torch.library.register_autocast("polarity::mlp_tangents", _device, torch.float32)


_TRACKED = (
    "{}: a weight or factor is being differentiated and this op has derivatives in its first argument alone; "
    "detach() them, or compose the layers of torch and scale_tangents"
)


class _MlpTangents(torch.autograd.Function):
    """Linear in v; weights and factors are constants (`_apply` sees to it)."""

    @staticmethod
    def forward(v: Tensor, adjoint: bool, layers: int, *constants: Tensor) -> Tensor:
        weights, factors = list(constants[:layers]), list(constants[layers:])
        out: Tensor = torch.ops.polarity.mlp_tangents(v, weights, factors, adjoint)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        v, ctx.adjoint, ctx.layers, *constants = inputs
        ctx.name = "mlp_cotangents" if ctx.adjoint else "mlp_tangents"
        ctx.set_materialize_grads(False)  # None: not differentiated
        ctx.is_shared = v.dim() == 2
        ctx.save_for_backward(*constants)
        ctx.save_for_forward(*constants)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if any(ctx.needs_input_grad[3:]):  # by an outer transform, whose tracking nobody sees from outside
            raise RuntimeError(_TRACKED.format(ctx.name))
        constants = ctx.saved_tensors
        if grad is None:
            return (None,) * (3 + len(constants))
        of_v = apply(_MlpTangents, grad, not ctx.adjoint, ctx.layers, *constants)
        return of_v.sum(1) if ctx.is_shared else of_v, *[None] * (2 + len(constants))

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, _: None, __: None, *constants: Tensor | None) -> Tensor | None:
        if any(constant is not None for constant in constants):
            raise RuntimeError(_TRACKED.format(ctx.name))
        if tangent is None:
            return None
        out: Tensor = apply(_MlpTangents, tangent, ctx.adjoint, ctx.layers, *ctx.saved_tensors)
        return out

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], v: Tensor, adjoint: bool, layers: int, *constants: Tensor
    ) -> tuple[Tensor, int]:
        if any(dim is not None for dim in in_dims[1:]):
            raise RuntimeError("mlp_tangents: weights and factors cannot be batched by vmap; put B in front")
        assert in_dims[0] is not None
        v = v.movedim(in_dims[0], 0)  # the batched probes are just more probes
        out: Tensor = apply(_MlpTangents, v.flatten(0, 1), adjoint, layers, *constants)
        return out.unflatten(0, v.shape[:2]), 0


def _apply(
    name: str, v: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor], adjoint: bool
) -> Tensor:
    constants = [*weights, *factors]
    if is_tracked(*constants):
        raise RuntimeError(_TRACKED.format(name))
    call = _between_graphs if torch.compiler.is_compiling() else apply
    out: Tensor = call(_MlpTangents, v, adjoint, len(weights), *constants)
    return out


@torch.compiler.disable  # it fails at a forward with any number of arguments
def _between_graphs(function: type[torch.autograd.Function], *args: Any) -> Any:
    return apply(function, *args)


def mlp_tangents(v: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """``out[l, b] = F_n[b] W_n ... F_1[b] W_1 v[l, b]``: all layers of a perceptron in one call.

    What the Jacobian of a multilayer perceptron does to probes: ``weights`` are its layers, ``factors`` the
    derivatives of its activations at each sample. A unit whose factor is exactly zero, as half or more of
    those behind a ReLU are, is left out: on the CPU the rest of the weights is gathered for every sample
    (where most units are active, the layers are library products instead, and zeros are multiplied), on
    CUDA one block takes some probes of a sample through all layers in shared memory. Products with the
    first matrix are formed once where v is shared.

    Differentiable in v (backward, jvp, vmap). The last factor may be of ones.

    Args:
        v: probes, [L, K] for all samples or [L, B, K], float32 or float64, any strides.
        weights: one to eight matrices [width_i, width_{i-1}], as of `torch.nn.Linear`; copied unless their
            transpose is contiguous.
        factors: as many matrices [B, width_i].

    Returns:
        [L, B, width_n], contiguous.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match, or a derivative in weights or factors is asked
            for.
    """
    return _apply("mlp_tangents", v, weights, factors, adjoint=False)


def mlp_cotangents(u: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """``out[l, b] = W_1^T F_1[b] ... W_n^T F_n[b] u[l, b]``: the transpose of `mlp_tangents`.

    Args:
        u: cotangents, [L, width_n] for all samples or [L, B, width_n], any strides.
        weights, factors: those of `mlp_tangents`, in the same order; weights are copied unless contiguous.

    Returns:
        [L, B, K], contiguous.

    Raises:
        RuntimeError: as `mlp_tangents`.
    """
    return _apply("mlp_cotangents", u, weights, factors, adjoint=True)
