"""A Jacobian as SciPy's iterative solvers take it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from polarity_sampling.jacobian.operator import JacobianOperator


def aslinearoperator(jacobian: "JacobianOperator") -> Any:
    """``scipy.sparse.linalg.LinearOperator`` of shape (B D, B K), block-diagonal over the latents."""
    import numpy as np
    from scipy.sparse.linalg import LinearOperator

    batch, dim_out, dim_in = jacobian.shape
    dtype = torch.empty(0, dtype=jacobian.dtype).numpy().dtype

    def apply(operator: Any, dim: int, columns: Any) -> Any:
        columns = np.ascontiguousarray(columns.reshape(batch, dim, -1), dtype=dtype)
        product: Tensor = operator @ torch.from_numpy(columns).to(jacobian.device)
        return product.reshape(-1, product.shape[-1]).cpu().numpy()

    def forward(columns: Any) -> Any:
        return apply(jacobian, dim_in, columns)

    def adjoint(columns: Any) -> Any:
        return apply(jacobian.mT, dim_out, columns)

    return LinearOperator(
        shape=(batch * dim_out, batch * dim_in),
        dtype=dtype,
        matvec=lambda x: forward(x).reshape(-1),
        rmatvec=lambda x: adjoint(x).reshape(-1),
        matmat=forward,
        rmatmat=adjoint,
    )
