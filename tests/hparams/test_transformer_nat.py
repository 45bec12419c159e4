"""The registered sets of the latent Transformer match their names."""

import dataclasses

import pytest

from t2t_vqem import registry
from t2t_vqem.config import resolve

SETS = ("tiny", "small", "base", "big", "multi30k", "cldr")


def hparams_of(name: str):
    return registry.hparams_sets.get(f"transformer_nat_{name}")()


def test_every_set_of_the_model_is_named_here():
    names = {name for name in registry.hparams_sets.names() if name.startswith("transformer_nat")}
    assert names == {f"transformer_nat_{name}" for name in SETS}


def test_base_is_the_model_of_the_paper():
    hparams = hparams_of("base")
    # arXiv 1805.11063, section 5; only the predictor is shallower.
    assert (hparams.hidden_size, hparams.filter_size, hparams.num_encoder_layers) == (512, 4096, 6)
    assert (hparams.num_halvings, hparams.num_codes, hparams.num_samples) == (3, 4096, 10)
    assert (hparams.codebook_decay, hparams.beta, hparams.masking_steps) == (0.999, 0.25, 50_000)


@pytest.mark.parametrize("name", ["multi30k", "cldr"])
def test_sets_that_start_from_a_teacher_have_its_sizes(name):
    teacher = registry.hparams_sets.get(f"transformer_{name}")()
    for field in ("hidden_size", "filter_size", "num_heads", "num_encoder_layers"):
        assert getattr(hparams_of(name), field) == getattr(teacher, field), field
    assert hparams_of(name).num_decoder_layers == teacher.num_decoder_layers


@pytest.mark.parametrize("kind", ["vq", "hard_em", "soft_em"])
@pytest.mark.parametrize("name", SETS)
def test_a_flag_changes_only_its_field_of_a_set(name, kind):
    found = resolve(hparams_set=f"transformer_nat_{name}", hparams=f"bottleneck_kind={kind}")
    differing = {
        field.name
        for field in dataclasses.fields(found.hparams)
        if getattr(found.hparams, field.name) != getattr(hparams_of(name), field.name)
    }
    assert found.hparams.bottleneck_kind == kind
    assert differing == ({"bottleneck_kind"} if kind != hparams_of(name).bottleneck_kind else set())
