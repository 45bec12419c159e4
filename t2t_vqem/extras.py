"""Imports optional dependencies; the error for a missing one says what to install."""

import importlib
from types import ModuleType

from t2t_vqem.constants import UsageError


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is not installed."""


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports a module that belongs to an extra of this package.

    Args:
        module: dotted name of the module, such as "babel.dates".
        extra: name of the extra in setup.py, such as "demo".

    Returns:
        The module.

    Raises:
        MissingExtraError: the module, or one of its dependencies, is not installed. The message
            has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} could not be imported ({error}). It belongs to the optional "
            f"dependencies {extra!r}: pip install 't2t-vqem[{extra}]'"
        ) from error
