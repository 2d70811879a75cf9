"""The script around compute-sanitizer; what it finds on a GPU is asked by running it there."""

import subprocess

import pytest
import torch

from tests.gpu import sanitize


def test_rows_pass_unwatched(capsys: pytest.CaptureFixture[str], seed: int) -> None:
    assert sanitize.main(["--rows", "cpu", "--seed", str(seed)]) == 0
    summary = capsys.readouterr().out.splitlines()[-1]
    assert int(summary.split()[0]) > 100
    assert summary.endswith(" passed, 0 failed")


def test_a_missing_tool_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sanitize, "sanitizer", lambda: None)
    assert sanitize.main([]) == 2
    assert "no compute-sanitizer on this machine: the kernels were NOT sanitized" in capsys.readouterr().out


def test_a_missing_gpu_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sanitize, "sanitizer", lambda: "/bin/true")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sanitize.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("returncode", "status", "said"), [(0, 0, None), (sanitize.FINDINGS, 1, "findings"), (1, 1, "failed")]
)
def test_status(
    returncode: int,
    status: int,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, returncode)

    monkeypatch.setattr(sanitize, "sanitizer", lambda: "compute-sanitizer")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(subprocess, "run", run)
    assert sanitize.main(["memcheck", "racecheck"]) == status
    assert [command[command.index("--tool") + 1] for command in ran] == ["memcheck", "racecheck"]
    if said:
        assert f"racecheck: {said}" in capsys.readouterr().out


def test_unknown_tools_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sanitize.main(["leakcheck"])
    assert "no tool leakcheck; there are memcheck" in capsys.readouterr().err
