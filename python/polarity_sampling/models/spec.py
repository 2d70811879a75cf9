"""`--model`: a registered name, or a function in a Python file of one's own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from polarity_sampling.errors import ModelError
from polarity_sampling.generator import Generator
from polarity_sampling.models import registry


def load_spec(spec: str, latent_dim: int | None = None) -> Generator:
    """The generator that `spec` names.

    Args:
        spec: a registered name (`"digits"`), or `"path.py:function"`: the file is run as if it lay on
            the import path and the function is called without arguments. It returns an `nn.Module` in
            eval mode, or a `Generator` where the base law is not the standard normal.
        latent_dim: length of the latent of a returned `nn.Module`; by default it is inferred.

    Raises:
        ModelError: if `spec` is no registered name and not of the form `path.py:function`, the named
            model is not installed, the file or the function does not exist, or it returns something else.

    Errors raised by the file itself pass through, with a note that says which file was being run.
    """
    path_text, colon, function = spec.rpartition(":")
    if not colon:
        if spec.endswith(".py"):
            raise ModelError(f"spec is {spec!r}: name the function in it too, as in '{spec}:make_generator'")
        return registry.load(spec)
    path = Path(path_text).expanduser().absolute()
    if not path.is_file():
        raise ModelError(f"spec is {spec!r}, but there is no file {path}")
    if path.suffix != ".py":
        raise ModelError(f"spec is {spec!r}, but {path} is not a Python file: its name must end in .py")

    # As in `python file.py`, what lies beside the file can be imported, also while the function runs.
    sys.path.insert(0, str(path.parent))
    try:
        made = _call(_run(path), path, function)
    except ModelError:
        raise
    except Exception as error:
        error.add_note(f"while making the generator {spec!r}")
        raise
    finally:
        sys.path.remove(str(path.parent))
    if isinstance(made, Generator):
        return made
    if isinstance(made, nn.Module):
        return Generator(made, latent_dim=latent_dim, name=f"{path.stem}:{function}")
    raise ModelError(
        f"{function}() in {path} returned {type(made).__name__}, but it must return a torch.nn.Module "
        f"or a polarity_sampling.Generator"
    )


def _run(path: Path) -> ModuleType:
    # A name of its own, so that a file called e.g. `random.py` replaces nothing in sys.modules.
    name = f"polarity_user_model.{path.stem}"
    description = importlib.util.spec_from_file_location(name, path)
    assert description is not None  # the suffix is .py
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module  # dataclasses and pickle look the module up by name
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _call(module: ModuleType, path: Path, function: str) -> object:
    if not hasattr(module, function):
        # Only what the file itself defines: an imported name is rarely what was meant.
        here = module.__name__
        own = sorted(n for n, value in vars(module).items() if getattr(value, "__module__", "") == here)
        found = f"it defines {', '.join(own)}" if own else "it defines no function"
        raise ModelError(f"{path} has no function {function!r}: {found}")
    made = getattr(module, function)
    if isinstance(made, Generator | nn.Module):
        return made
    if not callable(made):
        raise ModelError(f"{function!r} in {path} is a {type(made).__name__}, not a function")
    return made()
