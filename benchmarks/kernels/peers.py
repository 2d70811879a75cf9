"""The same results by other means: ATen, torch.compile of it, and CuPy's linear algebra."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.kernels.timing import Call
from tests.ops.cases import Op
from tests.ops.cases.case import Inputs

PEERS = ("aten", "compile", "cupy")

# What CuPy's einsum or linalg do in one call; ``cupy`` may be any module with its interface.
CUPY: dict[str, Callable[..., Any]] = {
    "cholesky": lambda cupy, a: cupy.linalg.cholesky(a),
    "gram": lambda cupy, y: cupy.einsum("bdi,bdj->bij", y.astype("float64"), y.astype("float64")),
    "jacobi_singular_values": lambda cupy, a, max_sweeps: cupy.linalg.svd(a, compute_uv=False),
    "linear_tangents": lambda cupy, t, weight, d, precision: cupy.einsum("lbi,oi,bo->lbo", t, weight, d),
    "scale_tangents": lambda cupy, t, d: cupy.einsum("l...,...->l...", t, d),
    "symmetric_eigenvalues": lambda cupy, a, top_k: cupy.linalg.eigvalsh(a)[:, ::-1][:, :top_k],
}

# Compositions that are a library's call, or a convolution, and little else: on a GPU torch.compile leaves
# them as they are, and to find that out takes longer than all else.
LIBRARY = {
    "cholesky",
    "convolve_to_few",
    "gaussian",
    "gaussian_product",
    "gram",
    "jacobi_singular_values",
    "solve_triangular",
    "symmetric_eigenvalues",
    "uniform",
    "winograd",
}


def calls(op: Op, inputs: Inputs, device: str, wanted: tuple[str, ...]) -> dict[str, Call]:
    """The peers that apply here, by name; says why where torch.compile does not."""
    found: dict[str, Call] = {}
    if "aten" in wanted:
        found["aten"] = lambda: op.composed(*inputs)
    if "compile" in wanted and not (device == "cuda" and op.name in LIBRARY):
        compiled = torch.compile(op.composed, dynamic=False)
        try:
            compiled(*inputs)
            found["compile"] = lambda: compiled(*inputs)
        except Exception as error:  # no C++ compiler, say: the other peers are still worth having
            print(f"torch.compile: {str(error).splitlines()[0]}")
    if "cupy" in wanted and device == "cuda" and op.name in CUPY:
        try:
            import cupy
        except ImportError:
            return found
        arrays = [cupy.from_dlpack(x) if isinstance(x, torch.Tensor) else x for x in inputs]
        # CuPy has a current stream of its own; events on torch's do not wait for what is on another.
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)

        def by_cupy() -> object:
            with stream:
                return CUPY[op.name](cupy, *arrays)

        try:
            by_cupy()
            found["cupy"] = by_cupy
        except Exception as error:  # it compiles kernels of its own, for which it may lack headers
            print(f"cupy: {(str(error).splitlines() or [type(error).__name__])[0]}")
    return found
