"""Compiled Torch ops for batched Jacobian products and log-volumes, on CPU and CUDA.

Importing the package registers ``torch.ops.polarity.*`` with its fake (meta) kernels. The functions
below are the public entry points: they add forward- and reverse-mode derivatives and ``vmap``, which
the raw ops do not have (a raw custom op is silently zero under forward-mode differentiation).
"""

from polarity_ext._load import load_extension

_C = load_extension()

from polarity_ext.ops.activation import ACTIVATIONS, activation  # noqa: E402
from polarity_ext.ops.active_convolutions import (  # noqa: E402
    ActiveConvolution,
    ActiveConvolutions,
    active_weight,
)
from polarity_ext.ops.cholesky import cholesky  # noqa: E402
from polarity_ext.ops.cholesky_qr import cholesky_qr  # noqa: E402
from polarity_ext.ops.convolution_chain import ChainedConvolution, ConvolutionChain  # noqa: E402
from polarity_ext.ops.convolve_to_few import convolve_to_few  # noqa: E402
from polarity_ext.ops.floored_log_sum import floored_log_sum  # noqa: E402
from polarity_ext.ops.gaussian_product import gaussian_product  # noqa: E402
from polarity_ext.ops.gram import gram  # noqa: E402
from polarity_ext.ops.jacobi_singular_values import jacobi_singular_values  # noqa: E402
from polarity_ext.ops.layer_gram import layer_gram  # noqa: E402
from polarity_ext.ops.linear_tangents import linear_tangents  # noqa: E402
from polarity_ext.ops.mask_tangents import mask_tangents, mask_tangents_, rectify  # noqa: E402
from polarity_ext.ops.mlp_gram import mlp_gram  # noqa: E402
from polarity_ext.ops.mlp_tangents import mlp_cotangents, mlp_tangents  # noqa: E402
from polarity_ext.ops.modulate_tangents import (  # noqa: E402
    modulate_cotangents,
    modulate_tangents,
    modulate_tangents_,
)
from polarity_ext.ops.normalize_tangents import normalize_tangents  # noqa: E402
from polarity_ext.ops.random import gaussian, uniform  # noqa: E402
from polarity_ext.ops.scale_tangents import scale_tangents, scale_tangents_  # noqa: E402
from polarity_ext.ops.softmax_tangents import softmax_tangents  # noqa: E402
from polarity_ext.ops.solve_triangular import solve_triangular  # noqa: E402
from polarity_ext.ops.symmetric_eigenvalues import symmetric_eigenvalues  # noqa: E402
from polarity_ext.ops.upfirdn2d import upfirdn2d  # noqa: E402
from polarity_ext.ops.weighted_draw import weighted_draw  # noqa: E402
from polarity_ext.ops.winograd import winograd, winograd_weight  # noqa: E402

__all__ = [
    "ACTIVATIONS",
    "ActiveConvolution",
    "ActiveConvolutions",
    "ChainedConvolution",
    "ConvolutionChain",
    "activation",
    "active_weight",
    "build_info",
    "cholesky",
    "cholesky_qr",
    "convolve_to_few",
    "floored_log_sum",
    "gaussian",
    "gaussian_product",
    "gram",
    "jacobi_singular_values",
    "kernel_table",
    "layer_gram",
    "linear_tangents",
    "mask_tangents",
    "mask_tangents_",
    "mlp_cotangents",
    "mlp_gram",
    "mlp_tangents",
    "modulate_cotangents",
    "modulate_tangents",
    "modulate_tangents_",
    "normalize_tangents",
    "rectify",
    "scale_tangents",
    "scale_tangents_",
    "softmax_tangents",
    "solve_triangular",
    "symmetric_eigenvalues",
    "uniform",
    "upfirdn2d",
    "weighted_draw",
    "winograd",
    "winograd_weight",
]


def build_info() -> dict[str, str]:
    """What the compiled extension was built from and for (versions, CUDA architectures)."""
    return dict(_C.build_info())


def kernel_table() -> list[dict[str, str]]:
    """One row ``{name, dtypes, backends}`` for every compiled kernel."""
    return [dict(row) for row in _C.kernel_table()]
