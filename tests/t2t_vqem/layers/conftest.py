"""Layers begin with the same weights in every run."""

import keras
import pytest


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seeds the initialisers: no test of a layer depends on luck."""
    keras.utils.set_random_seed(0)
