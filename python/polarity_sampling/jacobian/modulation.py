"""Modulated convolutions with one kernel for all samples, whichever way they are written.

StyleGAN2 multiplies a constant kernel w by factors of each sample, s over its inputs and d over its outputs,
and convolves every sample with a kernel of its own (Karras et al. 2020, arXiv 1912.04958, section 2.2). The
tangents of these kernels are as large as the kernels, for every sample and probe. But conv(x, w s d) =
d conv(x s, w), and the norm that d comes from is sum((w s)²) = s² @ sum(w²). So products of a constant and
small factors are carried along unmultiplied (`Factored`) until a convolution or a sum takes them apart.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from polarity_sampling.jacobian.factored import Factored

aten = torch.ops.aten

_VIEWS = {aten.view.default, aten._unsafe_view.default}
_RESHAPES = {
    *_VIEWS, aten.reshape.default, aten.unsqueeze.default, aten.squeeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.expand.default, aten.clone.default, aten.alias.default,
}  # fmt: skip


def share_kernels(recorded: GraphModule, inputs: Sequence[Tensor]) -> GraphModule:
    """The same function of the inputs with shared kernels wherever samples had their own."""
    varying = _varying(recorded)
    scaled = (n.all_input_nodes for n in varying if n.target is aten.mul.Tensor)
    if all(varying.issuperset(operands) for operands in scaled):
        return recorded  # no constant is scaled by anything
    rewriter = _Rewriter(recorded, varying)
    rewritten: GraphModule = make_fx(rewriter.run)(*inputs)
    return rewritten if rewriter.found else recorded


def _varying(recorded: GraphModule) -> set[Node]:
    """Nodes that depend on the inputs."""
    found: set[Node] = set()
    for node in recorded.graph.nodes:
        if node.op == "placeholder" or any(source in found for source in node.all_input_nodes):
            found.add(node)
    return found


class _Rewriter(Interpreter):
    """Runs a graph; values may be `Factored`, and are multiplied out for operators without a rule."""

    def __init__(self, recorded: GraphModule, varying: set[Node]) -> None:
        super().__init__(recorded, garbage_collect_values=False)
        self.found = False
        self._varying = varying
        self.apart: dict[Node, Tensor] = {}
        """What a rewritten convolution returned before samples and channels were merged again."""

    def run_node(self, n: Node) -> Any:
        if n.op != "call_function" or n not in self._varying:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        rule = _RULES.get(n.target)
        result = rule(self, n, args, kwargs) if rule is not None else None
        if result is None:
            args, kwargs = pytree.tree_map_only(Factored, lambda value: value.tensor, (args, kwargs))
            # What was rewritten may lie in memory differently, so that a view is not always possible.
            operator: Any = aten.reshape.default if n.target in _VIEWS else n.target
            result = operator(*args, **kwargs)
        return result

    def constant(self, argument: Any) -> bool:
        return isinstance(argument, Node) and argument not in self._varying

    def reshaped(self, node: Any, shape: Sequence[int]) -> Tensor:
        """The value of a node in another shape: what it was reshaped from, if that had this shape."""
        source = node
        while isinstance(source, Node):
            value = self.apart.get(source, self.env[source])
            if isinstance(value, Tensor) and list(value.shape) == list(shape):
                return value
            source = source.args[0] if source.target in _RESHAPES else None
        result: Tensor = self.env[node].reshape(shape)
        return result

    def convolve(self, node: Node, args: tuple[Any, ...]) -> Tensor | None:
        x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args
        if not isinstance(weight, Factored) or isinstance(x, Factored) or (x.shape[0] != 1 and groups != 1):
            return None
        parts = _take_apart(weight, groups, transposed)
        if parts is None:
            return None
        kernel, into, out_of = parts
        rank = x.ndim
        samples = max(groups, x.shape[0])
        apart = [samples, x.shape[1] // groups, *x.shape[2:]]
        x = self.reshaped(node.args[0], apart)
        ones = (1,) * (rank - 2)
        for scale in into:
            x = x * scale.reshape(*scale.shape, *ones)
        y = aten.convolution(x, kernel, None, stride, padding, dilation, transposed, output_padding, 1)
        for scale in out_of:
            y = y * scale.reshape(*scale.shape, *ones)
        if bias is not None:
            y = y + bias.reshape(groups, -1, *ones)
        self.found = True
        self.apart[node] = y
        merged: Tensor = y if groups == 1 else y.reshape(1, -1, *y.shape[2:])
        return merged


def _take_apart(
    weight: Factored, groups: int, transposed: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]] | None:
    """The shared kernel, scales of its inputs [samples, in] and of its outputs [samples, out].

    The weight of a grouped convolution has samples and outputs (transposed: inputs) merged in front.
    """
    sizes = weight.sizes
    front, second = weight.merged[0], weight.merged[1]
    cuts = [n for n in range(len(front) + 1) if math.prod(sizes[d] for d in front[:n]) == groups]
    if not cuts or any(weight.constant.shape[dim] != 1 for dim in front[: cuts[-1]]):
        return None
    samples, first = front[: cuts[-1]], front[cuts[-1] :]
    inputs, outputs = (first, second) if transposed else (second, first)
    into: list[Tensor] = []
    out_of: list[Tensor] = []
    for factor in weight.factors:
        varies = {dim for dim, size in enumerate(factor.shape) if size != 1}
        for dims, scales in ((outputs, out_of), (inputs, into)):
            if varies <= {*samples, *dims}:
                wanted = [sizes[dim] if dim in (*samples, *dims) else 1 for dim in range(len(sizes))]
                scales.append(factor.expand(wanted).reshape(groups, -1))
                break
        else:
            return None
    shape = [math.prod(sizes[d] for d in dims) for dims in (first, *weight.merged[1:])]
    whole = [1 if dim in samples else size for dim, size in enumerate(sizes)]
    return weight.constant.expand(whole).reshape(shape), into, out_of


_Rule = Callable[[_Rewriter, Node, tuple[Any, ...], dict[str, Any]], Any]


def _multiply(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    first, second = args
    places = node.args
    if isinstance(second, Factored):
        first, second, places = second, first, places[::-1]
    if isinstance(first, Factored):
        return first.times(second, constant=rewriter.constant(places[1]))
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return None
    if rewriter.constant(places[1]):
        first, second, places = second, first, places[::-1]
    if not rewriter.constant(places[0]):
        return None
    product = Factored.of(first, (second,))
    return None if product.sizes.numel() == second.numel() else product


def _divide(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    first, second = args
    if not isinstance(first, Factored) or isinstance(second, Factored):
        return None
    inverse = second.reciprocal() if isinstance(second, Tensor) else 1.0 / second
    return first.times(inverse, constant=rewriter.constant(node.args[1]))


def _power(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    base, exponent = args
    return base.power(exponent) if isinstance(base, Factored) else None


def _sum(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, dims, keepdim = (*args, False)[:3]
    if not isinstance(value, Factored) or not dims or kwargs:
        return None
    total = value.summed(dims, keepdim)
    if total is None:
        return None
    rewriter.found = True
    count = math.prod(value.sizes[dim] for dim in dims)
    return total if node.target is aten.sum.dim_IntList else total / count


def _permute(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = args[0]
    if not isinstance(value, Factored):
        return None
    dims = list(range(len(value.merged)))
    if node.target is aten.permute.default:
        dims = [dim % len(dims) for dim in args[1]]
    else:
        first, second = args[1:]
        dims[first], dims[second] = dims[second], dims[first]
    return value.permuted(dims)


def _reshape(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = args[0]
    operator: Any = node.target
    shape = operator(torch.empty(value.shape, device="meta"), *args[1:], **kwargs).shape
    if isinstance(value, Factored):
        return value.reshaped(shape)
    apart = rewriter.apart.get(node.args[0])  # type: ignore[arg-type]
    return apart if apart is not None and apart.shape == shape else None


def _flip(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0].flipped(args[1]) if isinstance(args[0], Factored) else None


def _convert(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(args[0], Factored) or set(kwargs) != {"dtype"}:
        return None
    return args[0].to(kwargs["dtype"])


def _convolution(rewriter: _Rewriter, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return rewriter.convolve(node, args)


_RULES: dict[Any, _Rule] = {
    aten.mul.Tensor: _multiply, aten.mul.Scalar: _multiply, aten.div.Tensor: _divide,
    aten.pow.Tensor_Scalar: _power, aten.sum.dim_IntList: _sum, aten.mean.dim: _sum,
    aten.permute.default: _permute, aten.transpose.int: _permute, aten.flip.default: _flip,
    aten._to_copy.default: _convert, aten.convolution.default: _convolution,
    **dict.fromkeys(_RESHAPES, _reshape),
}  # fmt: skip
