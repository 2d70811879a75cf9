import errno
import os
from pathlib import Path

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from PIL import Image
from polarity_sampling.models import load_spec
from safetensors.torch import load_file

from tests.cli.conftest import Polarity

M = "models.py:pictures"


def test_all_kinds_of_output_hold_the_same_draw(polarity: Polarity, bank: Path) -> None:
    result = polarity(
        "sample", "--bank", bank, "--model", M, "--rho", "-0.3", "--top-k", 2, "-n", 9, "--seed", 4,
        "--out", "g.png", "--out", "z.npz", "--out", "z.safetensors",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    draw = ps.PolaritySampler(ps.Bank.open(bank), -0.3, 2).sample(9, seed=4)
    with np.load("z.npz") as arrays:
        assert sorted(arrays) == ["latents", "log_weights", "row_ids"]
        assert np.array_equal(arrays["latents"], draw.latents.numpy())
        assert np.array_equal(arrays["log_weights"], draw.log_weights.numpy())
    tensors = load_file("z.safetensors")
    assert torch.equal(tensors["latents"], draw.latents)
    assert torch.equal(tensors["row_ids"], draw.row_ids)
    with Image.open("g.png") as picture:
        assert min(picture.size) > 3 * 48
    for text in (
        "9 of 96 rows, rho=-0.3, top_k=2 of 4",
        f"{draw.diagnostics.ess:,.1f}",
        "Pareto k",
        "realised rho",
    ):
        assert text in result.output


def test_magnet(polarity: Polarity, bank: Path) -> None:
    assert polarity("sample", "--bank", bank, "--magnet", "-n", 8, "-o", "z.npz").exit_code == 0
    draw = ps.MagnetSampler(ps.Bank.open(bank)).sample(8)
    assert np.array_equal(np.load("z.npz")["row_ids"], draw.row_ids.numpy())


def test_every_option_reaches_the_sampler(polarity: Polarity, bank: Path) -> None:
    result = polarity(
        "sample", "--bank", bank, "--rho", "0.4", "-n", 12, "--without-replacement", "--target", "uniform",
        "--flagged", "keep", "--seed", 2, "-o", "a.npz",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with pytest.warns(ps.PolarityWarning):
        sampler = ps.PolaritySampler(ps.Bank.open(bank), 0.4, target="uniform", flagged="keep")
    with pytest.warns(ps.PolarityWarning, match="effective sample size"):
        draw = sampler.sample(12, seed=2, replace=False)
    assert np.array_equal(np.load("a.npz")["row_ids"], draw.row_ids.numpy())
    assert "warning: " in result.stderr  # the target needs reweighting
    result = polarity(
        "sample", "--bank", bank, "--rho", "0.4", "-n", 12, "--method", "multinomial", "-o", "b.npz"
    )
    draw = ps.PolaritySampler(ps.Bank.open(bank), 0.4).sample(12, method="multinomial")
    assert np.array_equal(np.load("b.npz")["row_ids"], draw.row_ids.numpy())


def test_classes(polarity: Polarity) -> None:
    model = "models.py:conditional"
    ps.Bank.build(load_spec(model), 96, "b", top_k=2, progress=False)
    words = ["sample", "--bank", "b", "-m", model, "--rho", "0", "-n", 6, "--force"]
    for label, expected in {"1": [1] * 6, "0,2": [0, 2] * 3, "balanced": [0, 1, 2] * 2}.items():
        result = polarity(*words, "--label", label, "-o", "z.npz", "-o", "g.png")
        assert result.exit_code == 0, result.output
        assert np.load("z.npz")["labels"].tolist() == expected
    refused = polarity(*words, "--label", "3")
    assert refused.exit_code == 2
    assert "classes are 0 to 2" in refused.stderr


def test_points_in_the_plane_are_shown_too(polarity: Polarity) -> None:
    ps.Bank.build(load_spec("models.py:points"), 64, "b", top_k=None, progress=False)
    assert polarity("sample", "-b", "b", "-m", "models.py:points", "--magnet", "-o", "p.png").exit_code == 0
    with Image.open("p.png") as picture:
        assert picture.size[0] > 300


def test_a_registered_model_need_not_be_named(polarity: Polarity) -> None:
    ps.Bank.build(ps.models.load("digits"), 16, "b", top_k=1, batch_size=16, shard_rows=16, progress=False)
    result = polarity("sample", "-b", "b", "--rho", "0", "-n", 4, "-o", "g.png")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "either --rho NUMBER or --magnet"),
        (["--rho", "1", "--magnet"], 2, "either --rho NUMBER or --magnet"),
        (["--rho", "nan"], 2, "rho=nan"),
        (["--rho", "big"], 2, "expected a number or auto"),
        (["--rho", "auto"], 2, "without min_ess"),
        (["--magnet", "--min-ess", "9"], 2, "--rho auto"),
        (["--rho", "0", "-n", "0"], 2, "n=0"),
        (["--rho", "0", "--top-k", "9"], 2, "top_k=9"),
        (["--rho", "0", "--label", "1"], 2, "unconditional"),
        (["--rho", "0", "-o", "g.jpg"], 2, ".png, .npz, .safetensors"),
        (["--rho", "0", "-o", "g.png"], 2, "--model"),
        (["--rho", "0", "-o", "no/such/z.npz"], 1, "not a folder"),
        (["--rho", "0", "-n", "97", "--without-replacement"], 1, "97 draws"),
        (["--rho", "0", "-m", "digits"], 1, "another generator"),
    ],
)
def test_errors(polarity: Polarity, bank: Path, words: list[str], status: int, message: str) -> None:
    result = polarity("sample", "--bank", bank, *words)
    assert result.exit_code == status, result.output
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_samples_that_are_no_pictures(polarity: Polarity) -> None:
    ps.Bank.build(load_spec("models.py:table"), 32, "b", top_k=None, progress=False)
    result = polarity("sample", "-b", "b", "-m", "models.py:table", "--rho", "0", "-n", 4, "-o", "g.png")
    assert result.exit_code == 2
    assert "write .npz or .safetensors" in result.stderr


def test_nothing_is_overwritten_without_force(polarity: Polarity, bank: Path) -> None:
    Path("z.npz").write_bytes(b"dear to me")
    words = ["sample", "--bank", bank, "--rho", "0", "-n", 4, "-o", "z.npz"]
    assert polarity(*words).exit_code == 1
    assert Path("z.npz").read_bytes() == b"dear to me"
    assert polarity(*words, "--force").exit_code == 0
    assert np.load("z.npz")["latents"].shape == (4, 4)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "png"])
def test_a_full_disk_leaves_nothing_half_written(
    polarity: Polarity, bank: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(f"z.{suffix}").write_text("old")
    words = ["sample", "-b", bank, "--rho", "1", "-n", "4", "-m", "models.py:pictures", "--force"]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = polarity(*words, "-o", f"z.{suffix}")
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    assert Path(f"z.{suffix}").read_text() == "old"


def test_a_small_effective_sample_size_warns(polarity: Polarity, bank: Path) -> None:
    result = polarity("sample", "--bank", bank, "--rho", "30", "-n", 50)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: effective sample size")
    assert "Pareto k" in result.stdout


def test_rho_as_far_as_the_bank_goes(polarity: Polarity, bank: Path) -> None:
    result = polarity("sample", "--bank", bank, "--rho", "auto", "--min-ess", 60, "-n", 20, "-o", "z.npz")
    assert result.exit_code == 0, result.output
    sampler = ps.PolaritySampler(ps.Bank.open(bank), "auto", min_ess=60)
    assert np.array_equal(np.load("z.npz")["row_ids"], sampler.sample(20).row_ids.numpy())
    assert f"rho={sampler.rho:.3g}" in result.output
    assert sampler.ess >= 60
