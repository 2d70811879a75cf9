import dataclasses
import json

import pytest
import torch
from polarity_sampling.errors import BankError, SamplingError
from polarity_sampling.samplers.smc import checkpoint
from polarity_sampling.samplers.smc.tempering import Settings, init, step, take
from safetensors.torch import load_file, save_file

from .toys import by_class, linear, target

SETTINGS = Settings(particles=64, islands=4)
IDENTITY = {"rho": 1.0, "seed": 3}


def same(a, b):
    """Two states bit for bit, by way of what a checkpoint would write."""
    ours, theirs = checkpoint._tensors(a), checkpoint._tensors(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    return json.dumps(checkpoint._scalars(a)) == json.dumps(checkpoint._scalars(b))


@pytest.mark.parametrize("classes", [None, (0, 1)])
@pytest.mark.parametrize("steps", [0, 2, 12])
def test_a_run_goes_on_where_it_stopped(tmp_path, classes, steps, seed):
    """At any point: on the ladder, while settling and in production."""
    wanted = target(linear if classes is None else by_class, 1.5, classes=classes)
    state = init(wanted, seed, SETTINGS)
    for _ in range(steps):
        state = step(wanted, state, SETTINGS)
    checkpoint.save(tmp_path / "run", IDENTITY, {None: state, 4: state})
    loaded = checkpoint.load(tmp_path / "run", IDENTITY)
    assert list(loaded) == [None, 4]
    for again in loaded.values():
        assert same(state, again)
        assert {f.name for f in dataclasses.fields(again)} == {f.name for f in dataclasses.fields(state)}
        assert same(step(wanted, state, SETTINGS), step(wanted, again, SETTINGS))


def test_the_place_within_a_block_is_kept(tmp_path, seed):
    wanted = target(linear)
    state = init(wanted, seed, SETTINGS)
    while not state.thin:
        state = step(wanted, state, SETTINGS)
    _, _, state = take(wanted, state, SETTINGS, 23)
    checkpoint.save(tmp_path / "run", IDENTITY, {None: state})
    again = checkpoint.load(tmp_path / "run", IDENTITY)[None]
    assert torch.equal(take(wanted, state, SETTINGS, 60)[0].x, take(wanted, again, SETTINGS, 60)[0].x)


def test_every_field_is_written():
    covered = {*checkpoint._SCALARS, *checkpoint._POINTS, "stream", "ancestor", "surrogate", "ladder"}
    from polarity_sampling.samplers.smc.state import State

    assert covered == {field.name for field in dataclasses.fields(State)}


def test_another_run_and_damaged_files_are_refused(tmp_path, seed):
    path = tmp_path / "run"
    checkpoint.save(path, IDENTITY, {None: init(target(), seed, SETTINGS)})
    with pytest.raises(SamplingError, match=r"another run \(rho=1.0 there, 2.0 here\)"):
        checkpoint.load(path, {**IDENTITY, "rho": 2.0})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SamplingError, match="damaged"):
        checkpoint.load(path, IDENTITY)
    path.write_text("not a checkpoint")
    with pytest.raises(SamplingError, match="damaged"):
        checkpoint.load(path, IDENTITY)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(SamplingError, match="not a checkpoint"):
        checkpoint.load(path, IDENTITY)
    assert load_file(path)["x"] == 0  # left as it was
    with pytest.raises(BankError, match=r"reading .* failed"):
        checkpoint.load(tmp_path, IDENTITY)


def test_a_format_of_the_future_is_refused(tmp_path, seed, monkeypatch):
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 99)
        checkpoint.save(path, IDENTITY, {None: init(target(), seed, SETTINGS)})
    with pytest.raises(SamplingError, match="format 99"):
        checkpoint.load(path, IDENTITY)
