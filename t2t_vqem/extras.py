"""Imports of optional dependencies, with an error that says what to install."""

import importlib
from types import ModuleType

from t2t_vqem.constants import UsageError


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is not installed."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Returns `module`, which the optional dependencies `extra` of this package bring.

    Args:
        module: dotted name of the module, "babel.dates".
        extra: name of the extra in setup.py, "demo".

    Raises:
        MissingExtraError: the module, or something that it needs, is not installed; the
            message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} could not be imported ({error}). It belongs to the optional "
            f"dependencies {extra!r}: pip install 't2t-vqem[{extra}]'"
        ) from error
