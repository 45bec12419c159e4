"""The output of --registry_help."""

import dataclasses
import subprocess
import sys

import pytest

from t2t_vqem import registry
from t2t_vqem.constants import UsageError
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.registry_help import REGISTRIES, registry_help


def test_the_list_has_everything_with_one_line_each():
    lines = registry_help().splitlines()
    for kind in REGISTRIES:
        assert kind.names()
        for name in kind.names():
            matching = [line for line in lines if line.split()[:1] == [name]]
            assert any(line.endswith(kind.summary(name)) for line in matching), name


def test_a_model_is_shown_with_every_field():
    text = registry_help("transformer")
    assert text.startswith("model transformer, registered at ")
    for field in dataclasses.fields(TransformerHParams):
        assert f"  {field.name}: " in text
        assert field.metadata["meaning"] in text


def test_a_set_is_shown_with_its_own_values():
    assert "hidden_size: int = 1024" in registry_help("transformer_big")


@pytest.mark.parametrize("name", registry.problems.names())
def test_a_problem_is_shown_with_its_settings(name):
    text = registry_help(name)
    assert "\nData: made " in text
    for field in dataclasses.fields(registry.problems.get(name).Config):
        assert f"  {field.name}: " in text
        assert field.metadata.get("meaning"), f"{name}: {field.name} has no meaning"


def test_an_unknown_name_shows_the_nearest():
    with pytest.raises(UsageError, match="'transformer_bse'. Did you mean transformer_base"):
        registry_help("transformer_bse")


def test_a_module_that_fails_to_import_is_listed_once_with_the_reason(monkeypatch):
    assert "Not available" not in registry_help()
    failures = {"plug-in bad = bad": ImportError("needs this")}
    monkeypatch.setattr(registry, "_plugin_failures", failures)
    assert registry_help().endswith("\n\nNot available:\n  plug-in bad = bad: needs this")


def test_no_tensorflow_is_imported():
    program = (
        "import sys; from t2t_vqem.registry_help import registry_help as show\n"
        "print(show(), *map(show, ('transformer', 'vqvae_digits', 'image_digits', 'cosine')))\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
