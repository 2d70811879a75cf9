import json
from pathlib import Path

import polarity_sampling as ps
import pytest
import torch
from PIL import Image
from polarity_sampling.bank import build
from polarity_sampling.models import faces, load_spec
from polarity_sampling.samplers import effective_sample_sizes

from tests.cli.conftest import Polarity


def check_outputs(out: Path, model: str, bank_name: str, grid: bool = True) -> dict:
    """Everything the demo promises is there, and its summary is true."""
    summary = json.loads((out / "summary.json").read_text())
    assert summary["model"] == model
    bank = ps.Bank.open(
        out / bank_name, load_spec("models.py:" + model.partition(":")[2]) if ":" in model else None
    )
    assert summary["bank"]["rows"] == len(bank)
    rhos = [draw["rho"] for draw in summary["draws"]]
    assert rhos == sorted(rhos)
    assert 0.0 in rhos
    assert summary["draws"][-1]["sampler"] == "magnet"
    sizes = effective_sample_sizes(bank, rhos, summary["top_k"])
    for draw, size in zip(summary["draws"], sizes, strict=True):
        assert draw["ess"] == pytest.approx(size)
        assert draw["ess"] >= draw["n"]
        assert len(draw["row_ids"]) == draw["n"]
        assert draw["variety"] > 0.0
    for name in ["grid"] * grid + ["log_volume", "ess"]:
        with Image.open(out / f"{name}.png") as picture:
            picture.load()
            assert min(picture.size) > 300
    assert (out / "grid.png").exists() == grid
    return summary


def test_digits_from_nothing_to_pictures(polarity: Polarity) -> None:
    result = polarity("demo", "--model", "digits", "--seconds", 5, "--rows", 256)
    assert result.exit_code == 0, result.output
    summary = check_outputs(Path("demo"), "digits", "digits.bank")
    assert summary["draws"][0]["rho"] < 0
    assert summary["draws"][0]["n"] == 36
    text = " ".join(result.output.split())
    for words in (
        "Licence",
        "MNIST",
        "256 latents",
        f"top_k = {summary['top_k']} of 20",
        "MaGNET",
        "look at",
    ):
        assert words in text
    for name in ("grid.png", "log_volume.png", "ess.png", "summary.json"):
        assert f"demo/{name}" in text


def test_a_conditional_model_of_ones_own(polarity: Polarity) -> None:
    result = polarity("demo", "-m", "models.py:conditional", "-o", "d", "--seconds", 5, "--rows", 256)
    assert result.exit_code == 0, result.output
    check_outputs(Path("d"), "Conditional", "Conditional.bank")


def test_points_in_the_plane(polarity: Polarity) -> None:
    result = polarity("demo", "-m", "models.py:points", "-o", "d", "--rows", 1000)
    assert result.exit_code == 0, result.output
    summary = check_outputs(Path("d"), "Shift", "Shift.bank")
    assert summary["top_k"] == 2
    assert summary["draws"][0]["n"] == 125
    assert "as the published code" not in result.output  # its base law is uniform: nothing to excuse


def test_samples_that_cannot_be_shown(polarity: Polarity) -> None:
    result = polarity("demo", "-m", "models.py:table", "-o", "d", "--rows", 256)
    assert result.exit_code == 0, result.output
    check_outputs(Path("d"), "Shift", "Shift.bank", grid=False)
    assert "no grid: " in result.output


def test_again_reuses_the_bank_and_more_rows_extend_it(polarity: Polarity) -> None:
    words = ["demo", "-m", "models.py:pictures", "-o", "d"]
    polarity(*words, "--rows", 256)
    bank = Path("d/models-pictures.bank")
    first = ps.Bank.open(bank).singular_values
    written = {path.name: path.stat().st_mtime_ns for path in bank.glob("*.parquet")}
    again = polarity(*words)
    assert again.exit_code == 0, again.output
    assert "reusing" in again.output
    assert {path.name: path.stat().st_mtime_ns for path in bank.glob("*.parquet")} == written
    more = polarity(*words, "--rows", 320)
    assert "64 new" in more.output
    assert torch.equal(ps.Bank.open(bank).singular_values[:256], first)


def test_the_time_budget_ends_the_bank_but_not_below_the_least(polarity: Polarity) -> None:
    result = polarity("demo", "-m", "models.py:pictures", "-o", "d", "--seconds", 0)
    assert result.exit_code == 0, result.output
    assert len(ps.Bank.open("d/models-pictures.bank")) == 256


def test_interrupted_it_resumes(polarity: Polarity, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["demo", "-m", "models.py:pictures", "-o", "d", "--rows", 256]
    compute = build.compute_rows

    def stop_at_128(generator, metadata, start, stop, advance=lambda rows: None):
        if start >= 128:
            raise KeyboardInterrupt
        return compute(generator, metadata, start, stop, advance)

    with monkeypatch.context() as patch:
        patch.setattr(build, "compute_rows", stop_at_128)
        result = polarity(*words)
    assert result.exit_code == 130
    assert "stopped with 128 of 256 rows" in result.stderr
    assert not list(Path("d").glob("*.png"))
    result = polarity(*words)
    assert result.exit_code == 0, result.output
    assert "128 rows are there" in result.output
    assert "128 new" in result.output
    check_outputs(Path("d"), "models:pictures", "models-pictures.bank")


def test_one_folder_holds_one_model(polarity: Polarity) -> None:
    polarity("demo", "-m", "models.py:points", "-o", "d", "--rows", 256)
    before = Path("d/grid.png").read_bytes()
    result = polarity("demo", "-m", "models.py:pictures", "-o", "d", "--rows", 256)
    assert result.exit_code == 1
    assert "--out" in result.stderr
    assert Path("d/grid.png").read_bytes() == before


def test_faces_without_a_network_name_the_other_model(
    polarity: Polarity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(faces, "REQUIREMENT", "gan-face-generate==0.0.0.nowhere")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    result = polarity("demo")
    assert result.exit_code == 1
    assert "--model digits" in result.stderr
    assert not Path("demo").exists()


def test_without_matplotlib_it_ends_before_the_bank(
    polarity: Polarity, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = polarity("demo", "--model", "digits")
    assert result.exit_code == 1
    assert "polarity-sampling[demo]" in result.stderr
    assert not Path("demo").exists()
