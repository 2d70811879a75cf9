"""What the compiled ops say about memory layout (csrc/torch/check.h), for their fake kernels."""

from math import prod

from torch import Tensor


def is_dense(tensor: Tensor, first: int = 0) -> bool:
    """Dimensions ``first`` and later fill one run of memory, in whatever order of dimensions."""
    if tensor.is_contiguous():
        return True
    sizes, strides = tensor.shape[first:], tensor.stride()[first:]
    run = 1
    for stride, size in sorted(zip(strides, sizes, strict=True)):
        if size != 1 and stride != run:
            return prod(sizes) == 0
        run *= size
    return True


def same_order(a: Tensor, a_first: int, b: Tensor, b_first: int) -> bool:
    """Dimensions ``a_first`` and later of a lie in memory as dimensions ``b_first`` and later of b."""
    strides = zip(a.shape[a_first:], a.stride()[a_first:], b.stride()[b_first:], strict=True)
    return all(size == 1 or left == right for size, left, right in strides)
