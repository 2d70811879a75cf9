"""The Jacobian of a generator as a batched linear operator."""

from polarity_sampling.jacobian.operator import AdjointOperator, JacobianOperator, jacobian

__all__ = ["AdjointOperator", "JacobianOperator", "jacobian"]
