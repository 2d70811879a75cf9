"""Finds the compiled extension, or says what to do when there is none that fits."""

import importlib
import importlib.machinery
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent
BUILD_COMMAND = "pip install --no-build-isolation -e .   (or: pip install .)"


def load_extension() -> ModuleType:
    """The ``_C`` module.

    Raises:
        ImportError: there is no extension, it was built for another Python, or it does not load.
    """
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
