"""The values of every registered set.

Results were measured with these values, and users' commands rely on them. So a changed default, or
a changed set that others build on, must not change a set unnoticed.
"""

import json
import pathlib

import pytest

from t2t_vqem import registry
from t2t_vqem.config import to_json
from t2t_vqem.fields import json_defaults

STORED = json.loads(pathlib.Path(__file__).with_name("values.json").read_text("utf-8"))


def test_every_set_is_stored():
    assert sorted(STORED) == registry.hparams_sets.names()


@pytest.mark.parametrize("name", STORED)
def test_values(name):
    hparams = registry.hparams_sets.get(name)()
    # A hyperparameter that is not in the file was added later and must have its default.
    expected = json_defaults(type(hparams)) | STORED[name]
    assert {"model": hparams.model, **to_json(hparams)} == expected
