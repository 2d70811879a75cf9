"""Padding by the pixels of an image itself, reflected or repeated."""

import torch
from torch import Tensor

from polarity_sampling.jacobian.stage import Call, Map, Stage, rule

aten = torch.ops.aten

_PADS = {
    getattr(aten, f"{kind}_pad{dims}d").default: (dims, getattr(aten, f"{kind}_pad{dims}d_backward").default)
    for kind in ("reflection", "replication")
    for dims in (1, 2, 3)
}


@rule(*_PADS)
def padded_by_itself(call: Call) -> Stage:
    dims, backward = _PADS[call.op]
    before, after, pad = tuple(call["self"].shape), tuple(call.out.shape), call["padding"]
    image, result = before[-dims:], after[-dims:]

    def push(t: Tensor) -> Tensor:
        out: Tensor = call.op(t.reshape(-1, 1, *image), pad)
        return out.reshape(*t.shape[:-dims], *result)

    def pull(u: Tensor) -> Tensor:
        flat = u.reshape(-1, 1, *result)
        whole: Tensor = backward(flat, flat.new_empty(()).expand(flat.shape[0], 1, *image), pad)
        return whole.reshape(*u.shape[:-dims], *image)

    return Map(push, pull, any_batch=len(before) > dims)
