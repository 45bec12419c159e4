"""Stops with the install command if the package is not installed from this checkout."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent
INSTALL = "pip install -e '.[dev,all]' -c constraints.txt"


def pytest_configure() -> None:
    # Without an installation, Python would find only the engine, in the working directory. The
    # mapped folders would be missing, or come from an installation of another checkout.
    spec = importlib.util.find_spec("t2t_vqem.problems")
    if spec is None or spec.origin is None:
        pytest.exit(f"t2t_vqem is not installed. Run: {INSTALL}", returncode=2)
    installed = pathlib.Path(spec.origin).resolve()
    if not installed.is_relative_to(ROOT.resolve()):
        pytest.exit(
            f"t2t_vqem is installed from {installed.parent}, not from {ROOT}. Run: {INSTALL}",
            returncode=2,
        )
