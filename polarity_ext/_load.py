"""Finds the compiled extension, or says what to do when there is none that fits."""

import importlib
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent
BUILD_COMMAND = "pip install --no-build-isolation -e .   (or: pip install .)"


def load_extension() -> ModuleType:
    """The ``_C`` module.

    Raises:
        ImportError: there is no torch; there is no extension, it was built for another Python, or it does
            not load.
    """
    try:
        importlib.import_module("torch")  # its libraries must be there before the extension that links them
    except ModuleNotFoundError as error:
        raise ImportError(
            f"polarity_ext: torch is not installed for {sys.executable}; pip install 'torch>=2.10'"
        ) from error
    try:
        return importlib.import_module("polarity_ext._C")
    except ImportError as error:
        raise ImportError(_advice(error)) from error


def _advice(error: ImportError) -> str:
    wanted = importlib.machinery.EXTENSION_SUFFIXES[0]
    found = sorted(path.name for path in PACKAGE.glob("_C*") if path.suffix in {".so", ".pyd"})
    if f"_C{wanted}" in found:
        return (
            f"polarity_ext: the compiled extension _C{wanted} does not load ({error}). "
            f"It needs torch >= 2.10. Rebuild it in the project's directory: {BUILD_COMMAND}"
        )
    if found:
        return (
            f"polarity_ext: the compiled extension was built for another Python (found {', '.join(found)}; "
            f"this one needs _C{wanted}). Rebuild it in the project's directory: {BUILD_COMMAND}"
        )
    return (
        f"polarity_ext: there is no compiled extension in {PACKAGE}. "
        f"Build it in the project's directory: {BUILD_COMMAND}"
    )
