"""Padding of tangents: the right zeros, and no change of the memory layout."""

import pytest
import torch
import torch.nn.functional as F
from polarity_sampling.jacobian.rules.shape import _padded

IMAGES = torch.randn(6, 4, 5, 7)
LAYOUTS = {
    "channels first": IMAGES.unflatten(0, (2, 3)),
    "channels last": IMAGES.contiguous(memory_format=torch.channels_last).unflatten(0, (2, 3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pad", [[1, 2], [1, 2, 0, 3], [-1, 1, 2, 0, 1, 0]])
def test_zeros(layout, pad):
    t = LAYOUTS[layout]
    padded = _padded(t, pad)
    assert torch.equal(padded, F.pad(t, pad))
    order = sorted(range(5), key=t.stride, reverse=True)
    assert padded.permute(order).is_contiguous()


def test_zeros_between_pixels_of_channels_last():
    """Inserted behind every pixel, with the channels still together: the next reshape is a view."""
    t = LAYOUTS["channels last"][:, :, :, :, None, :, None]
    padded = _padded(t, [0, 1, 0, 0, 0, 1])
    assert torch.equal(padded, F.pad(t, [0, 1, 0, 0, 0, 1]))
    assert padded.permute(0, 1, 3, 4, 5, 6, 2).is_contiguous()
