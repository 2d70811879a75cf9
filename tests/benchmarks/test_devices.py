"""What does not go together is refused, TF32 is off on a GPU, and its clock waits for it."""

import argparse
import time

import pytest
import torch
from polarity_sampling.precision import fp32_precisions, set_fp32_precisions

from benchmarks import devices


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    devices.add_arguments(made)
    return made


def test_the_cpu_is_the_default_and_keeps_torch_as_it_is(parser: argparse.ArgumentParser) -> None:
    arguments = parser.parse_args([])
    before = fp32_precisions()
    devices.prepare(parser, arguments.device, arguments.clock)
    assert (arguments.device, arguments.clock, fp32_precisions()) == ("cpu", "wall", before)
    assert devices.clock_of("cpu", "cpu") is time.process_time
    assert devices.file_name("speed", "cpu") == "speed.csv"


@pytest.mark.parametrize(
    ("clock", "is_there", "message"), [("cpu", True, "--clock wall"), ("wall", False, "finds no CUDA device")]
)
def test_what_a_gpu_cannot_do_is_refused(
    parser: argparse.ArgumentParser,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    clock: str,
    is_there: bool,
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    with pytest.raises(SystemExit):
        devices.prepare(parser, "cuda", clock)
    assert message in capsys.readouterr().err


def test_a_gpu_is_waited_for_and_multiplies_in_float32(
    parser: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Some (TM) 100")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("device"))
    before = fp32_precisions()
    try:
        devices.prepare(parser, "cuda", "wall")
        assert fp32_precisions() == ["ieee"] * 3
    finally:
        set_fp32_precisions(before)
    clock = devices.clock_of("cuda", "wall")
    assert clock() <= clock()
    assert waited == ["device"] * 2
    assert devices.file_name("speed", "cuda") == "speed-nvidia-some-100.csv"
    assert devices.machine("cuda", "wall").startswith("NVIDIA Some (TM) 100, torch")
