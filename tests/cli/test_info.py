import pytest
import torch

import polarity_ext.info
from tests.cli.conftest import Polarity


def test_info_shows_both_sides(polarity: Polarity, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = polarity_ext.info.report()[0]
    monkeypatch.setattr(polarity_ext.info, "report", lambda: (rows, []))
    result = polarity("info")
    assert result.exit_code == 0
    for text in (torch.__version__, "pyarrow", "typer", "kernel gram", "everything fits"):
        assert text in result.output


def test_info_fails_on_a_problem(polarity: Polarity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polarity_ext.info, "report", lambda: ([("python", "3")], ["rebuild it"]))
    result = polarity("info")
    assert result.exit_code == 1
    assert result.stderr == "problem: rebuild it\n"
    assert "everything fits" not in result.output
