import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polarity_sampling.report import as_pictures, mosaic, value_range


def test_value_range() -> None:
    assert value_range(torch.tensor([0.0, 0.4])) == (0.0, 1.0)
    assert value_range(torch.tensor([-0.2, 0.4])) == (-1.0, 1.0)
    assert value_range(torch.tensor([-0.2, 4.0])) == pytest.approx((-0.2, 4.0))


def test_black_and_white() -> None:
    x = torch.tensor([-1.0, 1.0, 0.0, 3.0]).view(1, 1, 2, 2)
    pictures = as_pictures(x, (-1.0, 1.0))
    assert pictures is not None
    assert pictures[0, :, :, 0].tolist() == [[0, 255], [128, 255]]


def test_colours_keep_their_place() -> None:
    x = torch.zeros(2, 3, 4, 5)
    x[1, 2, 3, 4] = 1.0
    pictures = as_pictures(x)
    assert pictures is not None
    assert pictures.shape == (2, 4, 5, 3)
    assert np.argwhere(pictures).tolist() == [[1, 3, 4, 2]]


def test_without_channels_and_constant() -> None:
    pictures = as_pictures(torch.full((2, 3, 3), 7.0))
    assert pictures is not None
    assert pictures.shape == (2, 3, 3, 1)


@pytest.mark.parametrize("shape", [(4, 2), (4, 784), (4, 2, 8, 8), (4, 3, 8, 1), (4, 1, 2, 2, 2)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    assert as_pictures(torch.rand(shape)) is None


@given(
    st.integers(1, 30),
    st.sampled_from([8, 28, 48, 64]),
    st.sampled_from([1, 3]),
    st.none() | st.integers(1, 7),
)
def test_every_picture_is_whole_in_the_mosaic(n: int, side: int, channels: int, columns: int | None) -> None:
    shades = np.arange(1, n + 1, dtype=np.uint8)
    pictures = np.broadcast_to(shades[:, None, None, None], (n, side, side, channels))
    tiles = mosaic(pictures, columns)
    factor = max(1, round(48 / side))
    for shade in shades:
        assert (tiles[:, :, 0] == shade).sum() == (factor * side) ** 2
    assert (tiles == 255).sum() + sum((tiles == shade).sum() for shade in shades) == tiles.size
