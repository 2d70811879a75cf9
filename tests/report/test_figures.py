import warnings
from collections.abc import Iterator
from pathlib import Path

import polarity_sampling as ps
import pytest
import torch
from PIL import Image
from polarity_sampling.report import Panel, ess_figure, grid_figure, log_volume_figure, rho_text, save
from polarity_sampling.report.style import DPI, rho_colour, size_text
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def bank() -> ps.Bank:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 5))
    return ps.Bank.build(module, 128, top_k=None, batch_size=128, shard_rows=128, progress=False)


def panels(samples: Tensor) -> list[Panel]:
    return [Panel(samples, rho_text(rho), "ESS 3", rho) for rho in (-1.0, 0.0, 1.0)]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.size


@pytest.mark.parametrize("shape", [(9, 3, 64, 64), (9, 1, 28, 28), (9, 16, 16), (1, 1, 8, 8), (2, 3, 40, 20)])
def test_grids_are_drawn_pixel_by_pixel(shape: tuple[int, ...], tmp_path: Path) -> None:
    samples = torch.rand(shape)
    figure = grid_figure(panels(samples))
    assert figure is not None
    save(figure, tmp_path / "g.png")
    width, height = size_of(tmp_path / "g.png")
    assert abs(width - DPI * figure.get_figwidth()) <= 1
    assert abs(height - DPI * figure.get_figheight()) <= 1
    assert width > 3 * 300


def test_a_grid_holds_the_exact_pixels(tmp_path: Path) -> None:
    """A picture of one colour no text has is there as often as it has pixels."""
    samples = torch.zeros(4, 3, 80, 80)
    samples[:, 1] = 1.0
    figure = grid_figure([Panel(samples, "title", "caption", 0.0)], (0.0, 1.0))
    assert figure is not None
    save(figure, tmp_path / "g.png")
    with Image.open(tmp_path / "g.png") as picture:
        green = sum(
            count for count, colour in picture.convert("RGB").getcolors(1 << 20) if colour == (0, 255, 0)
        )
    assert green == pytest.approx(4 * 80 * 80, abs=4 * 80)  # at most an edge lost to rounding


def test_points_are_scattered(tmp_path: Path) -> None:
    figure = grid_figure(panels(torch.randn(50, 2)))
    assert figure is not None
    assert len(figure.axes) == 3
    assert len({axis.get_xlim() for axis in figure.axes}) == 1  # to be compared
    save(figure, tmp_path / "p.png")
    assert size_of(tmp_path / "p.png")[0] > 3 * 400


def test_points_all_alike(tmp_path: Path) -> None:
    figure = grid_figure(panels(torch.ones(5, 2)))
    assert figure is not None
    save(figure, tmp_path / "p.png")


def test_other_samples_have_no_grid() -> None:
    assert grid_figure(panels(torch.rand(4, 7))) is None
    assert grid_figure(panels(torch.rand(4, 2, 8, 8))) is None
    with pytest.raises(ValueError, match="at least one"):
        grid_figure([])


def test_log_volumes(bank: ps.Bank, tmp_path: Path) -> None:
    value = bank.log_volume(2)[0].clone()
    value[3] = -torch.inf
    figure = log_volume_figure(value, {-1.0: value[:1], 0.0: value[5:9]}, 2)
    rows = sum(patch.get_height() for patch in figure.axes[0].patches)  # type: ignore[attr-defined]
    assert rows == 127
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["ρ = −1", "ρ = 0"]
    assert "2 largest singular values" in figure.axes[1].get_xlabel()
    save(figure, tmp_path / "v.png")
    assert size_of(tmp_path / "v.png")[0] == round(5.4 * DPI)
    with pytest.raises(ValueError, match="0 finite log-volumes"):
        log_volume_figure(torch.full((3,), torch.nan), {0.0: value[:1]}, 1)
    with pytest.raises(ValueError, match="draws at 0 rho"):
        log_volume_figure(value, {}, 1)


def test_log_volumes_all_equal(tmp_path: Path) -> None:
    value = torch.zeros(40, dtype=torch.float64)
    save(log_volume_figure(value, {0.0: value[:3]}, 1), tmp_path / "v.png")


def test_effective_sizes(bank: ps.Bank, tmp_path: Path) -> None:
    figure = ess_figure(bank, [1, 2, 3], 2, 16, (-1.0, 0.5))
    axis = figure.axes[0]
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["1", "2 (used)", "3", "16 draws"]
    sampler = ps.PolaritySampler(bank, 0.5, 2)
    marked = [line.get_ydata() for line in axis.lines if line.get_marker() == "o"]
    assert float(marked[1][0]) == pytest.approx(sampler.ess)  # type: ignore[index]
    save(figure, tmp_path / "e.png")
    assert size_of(tmp_path / "e.png")[0] == round(5.4 * DPI)


def test_effective_sizes_leave_out_what_is_flagged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2), nn.Linear(2, 6))  # rank 2
    bank = ps.Bank.build(flat, 64, top_k=None, batch_size=64, shard_rows=64, progress=False)
    legend = ess_figure(bank, [1, 2, 3, 4], 2, 16).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["1", "2 (used)", "16 draws"]


def test_names_and_colours() -> None:
    assert [rho_text(rho) for rho in (-0.5, 0.0, 1.0)] == ["ρ = −0.5", "ρ = 0", "ρ = 1"]
    assert [size_text(size) for size in (1.04, 43.2, 1820.0)] == ["1.0", "43", "1,820"]
    assert len({rho_colour(rho) for rho in (-1.0, -0.5, 0.0, 0.5, 1.0)}) == 5


def test_figures_leave_global_settings_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    grid_figure(panels(torch.rand(4, 1, 8, 8)))
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"polarity-sampling\[demo\]"):
        grid_figure(panels(torch.rand(4, 1, 8, 8)))
