from pathlib import Path

import polarity_sampling as ps
import pytest
from polarity_sampling.cli import arguments
from torch import nn


def test_top_k() -> None:
    assert [arguments.parse_top_k(text) for text in ("auto", "all", "12")] == ["auto", None, 12]
    with pytest.raises(ValueError, match="--top-k ten"):
        arguments.parse_top_k("ten")


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("normal", ps.Normal()),
        ("normal:0,1.5", ps.Normal(0.0, 1.5)),
        ("uniform:-2,1", ps.Uniform(-2.0, 1.0)),
        ("truncated_normal:2", ps.TruncatedNormal(2.0)),
        ("sphere", ps.Sphere()),
        ("ball:12.0", ps.Ball(12.0)),
    ],
)
def test_laws(text: str, law: ps.Law) -> None:
    assert arguments.parse_law(text) == law


@pytest.mark.parametrize("text", ["gauss", "ball", "ball:x", "ball:1,2,3", "ball:-1", "uniform:1,1", ""])
def test_wrong_laws(text: str) -> None:
    with pytest.raises(ValueError, match=r"law|expected|ball"):
        arguments.parse_law(text)


def test_proposals() -> None:
    generator = ps.Generator(nn.Linear(3, 4))
    assert arguments.parse_proposal("none", generator) is None
    assert arguments.parse_proposal("ball", generator) == ps.Normal().region(3)
    assert arguments.parse_proposal("ball:2", generator) == ps.Ball(2.0)


def test_labels() -> None:
    parsed = [arguments.parse_label(text) for text in (None, "3", "0,2,1", "balanced")]
    assert parsed == [None, 3, [0, 2, 1], "balanced"]
    with pytest.raises(ValueError, match="--label all"):
        arguments.parse_label("all")


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    there = tmp_path / "there"
    arguments.require_new([there], force=False)
    there.touch()
    with pytest.raises(FileExistsError, match="--force"):
        arguments.require_new([there], force=False)
    arguments.require_new([there], force=True)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        arguments.require_new([tmp_path / "no" / "folder"], force=True)


def test_devices() -> None:
    generator = ps.Generator(nn.Linear(3, 4))
    for device in (None, "cpu"):
        arguments.place(generator, device)
        assert generator.device.type == "cpu"
    with pytest.raises(ValueError, match="--device gpu: expected cpu, cuda or cuda:NUMBER"):
        arguments.place(generator, "gpu")
    with pytest.raises(ValueError, match=r"--device cuda:99: torch .* sees \d+ GPUs"):
        arguments.place(generator, "cuda:99")


@pytest.mark.gpu
def test_a_registered_model_goes_to_a_gpu() -> None:
    generator, own = ps.models.load("digits"), ps.Generator(nn.Linear(3, 4))
    arguments.place(generator, None)
    arguments.place(own, None)
    assert (generator.device.type, own.device.type) == ("cuda", "cpu")
