import re
from pathlib import Path
from typing import Any

import numpy as np
import polarity_sampling as ps
import pytest
from PIL import Image
from polarity_sampling.models import load_spec
from polarity_sampling.samplers.smc.state import State
from polarity_sampling.samplers.smc.tempering import step

from tests.cli.conftest import Polarity

M = "models.py:pictures"


def test_the_draw_is_the_samplers(polarity: Polarity, folder: Path) -> None:
    words = ["smc", "-m", M, "--rho", "-0.5", "--top-k", 2, "-n", 9, "--seed", 4, "--particles", 32]
    result = polarity(*words, "--law", "ball", "-o", "z.npz", "-o", "g.png")
    assert result.exit_code == 0, result.output
    g = load_spec(M)
    draw = ps.SMCSampler(g, -0.5, 2, law=g.base.region(4), particles=32).sample(9, seed=4)
    assert np.array_equal(np.load("z.npz")["latents"], draw.latents.numpy())
    with Image.open("g.png") as picture:
        assert min(picture.size) > 100
    for text in (f"{draw.diagnostics.evaluations:,} computed", "R-hat", "top_k=2"):
        assert text in result.output
    rungs = " -> ".join(f"{rung.rho:.2g}" for rung in draw.diagnostics.ladder)
    assert re.search(rf"ladder +{re.escape(rungs)}", result.output)


def test_classes_and_a_checkpoint(polarity: Polarity, folder: Path) -> None:
    words = ["smc", "-m", "models.py:conditional", "--top-k", 1, "-n", 4, "--particles", 32, "--label", "1"]
    for name in ("a.npz", "b.npz"):
        result = polarity(*words, "--checkpoint", "run", "-o", name)
        assert result.exit_code == 0, result.output
    first, again = np.load("a.npz"), np.load("b.npz")
    assert first["labels"].tolist() == [1] * 4
    # Nobody asked for what follows the first draw, so it counts as not handed out.
    assert np.array_equal(first["latents"], again["latents"])
    refused = polarity(*words, "--checkpoint", "run", "--rho", "0.5")
    assert refused.exit_code == 1
    assert "another run" in refused.stderr


def test_interrupted_with_a_checkpoint(
    polarity: Polarity, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between two sweeps: the message says that the run is kept, and the same command ends it."""
    words = ["smc", "-m", M, "--top-k", 2, "-n", 4, "--particles", 32, "--checkpoint", "run", "-o", "z.npz"]
    calls = []

    def stop(*arguments: Any) -> State:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("polarity_sampling.samplers.smc.sampler.step", stop)
        stopped = polarity(*words)
    assert stopped.exit_code == 130
    assert "interrupted: the run is kept in run; the same command goes on there" in stopped.stderr
    assert not Path("z.npz").exists()
    assert polarity(*words).exit_code == 0
    draw = ps.SMCSampler(load_spec(M), 1.0, 2, particles=32).sample(4)
    assert np.array_equal(np.load("z.npz")["latents"], draw.latents.numpy())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rho", "nan"], "rho=nan"),
        (["-n", "0"], "n=0"),
        (["--particles", "10"], "particles=10"),
        (["--law", "blob"], "law blob"),
        (["--top-k", "many"], "--top-k many"),
        (["-o", "g.jpg"], ".png, .npz, .safetensors"),
    ],
)
def test_errors(polarity: Polarity, folder: Path, words: list[str], message: str) -> None:
    result = polarity("smc", "-m", M, *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
