"""`path.py:function`: every way it can go wrong says what to do."""

import sys
import traceback

import pytest
import torch
from polarity_sampling import Generator, models
from polarity_sampling.errors import ModelError


@pytest.fixture
def own(tmp_path):
    """Writes a user's file and returns its path."""

    def write(source: str, name: str = "own.py"):
        path = tmp_path / name
        path.write_text(source)
        return path

    return write


MODULE = "from torch import nn\ndef make():\n    return nn.Linear(4, 6)\n"


def test_registered_name():
    assert models.load_spec("digits").name == "digits"


def test_function_that_returns_a_module(own):
    generator = models.load_spec(f"{own(MODULE)}:make", latent_dim=4)
    assert isinstance(generator, Generator)
    assert generator.latent_dim == 4
    assert generator.name == "own:make"
    assert generator(torch.zeros(3, 4)).shape == (3, 6)


def test_function_that_returns_a_generator(own):
    path = own(
        "import polarity_sampling as ps\nfrom torch import nn\n"
        "def make():\n"
        "    return ps.Generator(nn.Linear(4, 6), latent_dim=4, base=ps.Uniform(-2, 2), name='mine')\n"
    )
    generator = models.load_spec(f"{path}:make")
    assert generator.name == "mine"
    assert generator.base.low == -2


def test_class_and_ready_made_module(own):
    path = own(
        "from torch import nn\n"
        "class Own(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.map = nn.Linear(4, 6)\n"
        "    def forward(self, z):\n        return self.map(z)\n"
        "ready = Own()\n"
    )
    for name in ("Own", "ready"):
        assert models.load_spec(f"{path}:{name}", latent_dim=4)(torch.zeros(1, 4)).shape == (1, 6)


def test_modules_beside_the_file_can_be_imported(own):
    own("width = 7\n", "beside_own.py")
    path = own(MODULE.replace("6", "__import__('beside_own').width"))
    before = list(sys.path)
    try:
        assert models.load_spec(f"{path}:make", latent_dim=4)(torch.zeros(1, 4)).shape == (1, 7)
    finally:
        sys.modules.pop("beside_own", None)
    assert sys.path == before


def test_a_file_named_like_a_module_replaces_nothing(own):
    import random

    models.load_spec(f"{own(MODULE, 'random.py')}:make", latent_dim=4)
    assert sys.modules["random"] is random


def test_relative_path(own, monkeypatch):
    monkeypatch.chdir(own(MODULE).parent)
    assert models.load_spec("own.py:make", latent_dim=4).name == "own:make"


def test_file_missing(tmp_path):
    with pytest.raises(ModelError, match=r"there is no file .*absent\.py"):
        models.load_spec(f"{tmp_path / 'absent.py'}:make")


def test_function_missing_lists_what_the_file_defines(own):
    with pytest.raises(ModelError, match=r"no function 'mke': it defines make$"):
        models.load_spec(f"{own(MODULE)}:mke")
    with pytest.raises(ModelError, match="it defines no function"):
        models.load_spec(f"{own('from torch import nn', 'empty.py')}:make")


@pytest.mark.parametrize("spec", ["own.py", "./own.py"])
def test_function_not_named(spec):
    with pytest.raises(ModelError, match=r"name the function .*own\.py:make_generator"):
        models.load_spec(spec)


@pytest.mark.parametrize("name", ["facse", ""])
def test_not_a_registered_name(name):
    with pytest.raises(ModelError, match=r"registered models are"):
        models.load_spec(name)


def test_not_a_python_file(own):
    with pytest.raises(ModelError, match=r"must end in \.py"):
        models.load_spec(f"{own(MODULE, 'own.txt')}:make")


@pytest.mark.parametrize(("value", "kind"), [("None", "NoneType"), ("'text'", "str"), ("[1]", "list")])
def test_wrong_return_type(own, value, kind):
    path = own(f"def make():\n    return {value}\n")
    with pytest.raises(ModelError, match=rf"make\(\) in .* returned {kind}, .*Generator"):
        models.load_spec(f"{path}:make")


def test_not_a_function(own):
    with pytest.raises(ModelError, match=r"'make' in .* is a int, not a function"):
        models.load_spec(f"{own('make = 3')}:make")


@pytest.mark.parametrize("source", ["import no_such_package", "def make():\n    import no_such_package"])
def test_errors_of_the_file_say_where_they_come_from(own, source):
    spec = f"{own(source)}:make"
    before = sys.modules.keys() - {"polarity_user_model.own"}
    with pytest.raises(ModuleNotFoundError, match="no_such_package") as caught:
        models.load_spec(spec)
    assert f"while making the generator {spec!r}" in "".join(traceback.format_exception(caught.value))
    assert sys.modules.keys() - {"polarity_user_model.own"} == before


def test_model_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="polarity models install faces"):
        models.load_spec("faces")
