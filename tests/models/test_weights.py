"""Weight files: atomic, checked, and in the right folder."""

import os
import platform
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polarity_sampling.errors import ModelError
from polarity_sampling.models import weights
from torch import nn


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(5, 3, generator=random), "bias": torch.randn(5, generator=random)}


class Map(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 5)


def test_write_and_read(tmp_path):
    path = tmp_path / "new" / "folder" / "map.safetensors"
    saved = state()
    saved["weight"] = saved["weight"].T.contiguous().T  # column-major: values count, not strides
    weights.write(path, saved, {"source": "test"})
    back = weights.read(path)
    assert weights.content_hash(back) == weights.content_hash(state())
    weights.write(path, state(1))
    assert weights.content_hash(weights.read(path)) == weights.content_hash(state(1))
    assert [file.name for file in path.parent.iterdir()] == ["map.safetensors"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch, step, error):
    def fail(*_):
        raise error

    path = tmp_path / "map.safetensors"
    for before in (None, state(1)):
        if before:
            weights.write(path, before)
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises((ModelError, KeyboardInterrupt)) as caught:
                weights.write(path, state())
        if isinstance(error, OSError):
            assert "No space left" in str(caught.value)
            assert "XDG_CACHE_HOME" in str(caught.value)
        assert list(tmp_path.iterdir()) == ([path] if before else [])
    assert weights.content_hash(weights.read(path)) == weights.content_hash(state(1))


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot write"):
        weights.write(tmp_path / "file" / "map.safetensors", state())


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_content_hash_sees_every_bit_name_and_shape(data):
    seed = data.draw(st.integers(0, 2**31))
    first, second = state(seed), state(seed)
    reference = weights.content_hash(first)
    assert weights.content_hash(dict(reversed(second.items()))) == reference
    name = data.draw(st.sampled_from(["weight", "bias"]))
    change = data.draw(st.sampled_from(["bit", "name", "shape", "type"]))
    if change == "bit":
        index = data.draw(st.integers(0, second[name].numel() - 1))
        bit = data.draw(st.integers(0, 30))
        second[name].view(torch.int32).view(-1)[index] ^= 1 << bit
    elif change == "name":
        second[f"{name}_"] = second.pop(name)
    elif change == "shape":
        second[name] = second[name][None]
    else:
        second[name] = second[name].view(torch.int32)
    assert weights.content_hash(second) != reference


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**9))
def test_a_cut_file_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("cut") / "map.safetensors"
    weights.write(path, state())
    whole = path.read_bytes()
    path.write_bytes(whole[: length % len(whole)])
    with pytest.raises(ModelError, match="cannot be read"):
        weights.read(path)


def test_check_names_the_tensor():
    weights.check(state(), Map, "file")
    with pytest.raises(ModelError, match=r"file does not fit Map: bias is no such tensor, expected \[5\]"):
        weights.check({"weight": state()["weight"]}, Map, "file")
    with pytest.raises(ModelError, match=r"extra is \[1\], expected no such tensor"):
        weights.check(state() | {"extra": torch.zeros(1)}, Map, "file")
    with pytest.raises(ModelError, match=r"weight is \[3, 5\], expected \[5, 3\]"):
        weights.check(state() | {"weight": torch.zeros(3, 5)}, Map, "file")


def test_build_is_frozen_and_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    module = weights.build(Map, state())
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert torch.equal(module.weight, state()["weight"])


@pytest.mark.parametrize(
    ("system", "expected"),
    [("Linux", ".cache"), ("Darwin", "Library/Caches"), ("Windows", "AppData/Local")],
)
def test_cache_dir(monkeypatch, tmp_path, system, expected):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert weights.cache_dir() == tmp_path / expected / "polarity-sampling"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_dir() == tmp_path / "xdg" / "polarity-sampling"
