from pathlib import Path

import pytest
from polarity_sampling import ModelError
from polarity_sampling.models import faces

from tests.cli.conftest import Polarity


def test_list_shows_licences_and_data(polarity: Polarity) -> None:
    result = polarity("models", "list")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    for words in ("digits (installed)", "faces", "DigiFace-1M", "non-commercial research", "MIT", "MNIST"):
        assert words in text
    assert "path.py:function" in text


def test_list_says_how_to_install(
    polarity: Polarity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "not installed: polarity models install faces" in polarity("models", "list").output


def test_install_of_what_is_there(polarity: Polarity) -> None:
    result = polarity("models", "install", "digits")
    assert result.exit_code == 0
    assert "digits.safetensors" in result.output
    assert "MNIST" in result.output


def test_install_of_an_unknown_model(polarity: Polarity) -> None:
    result = polarity("models", "install", "digit")
    assert result.exit_code == 1
    assert "digits" in result.stderr


def test_install_without_a_network(
    polarity: Polarity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(folder: Path) -> Path:
        raise ModelError("pip could not fetch it: use --model digits")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(faces, "fetch", fail)
    result = polarity("models", "install", "faces")
    assert result.exit_code == 1
    assert "--model digits" in result.stderr
