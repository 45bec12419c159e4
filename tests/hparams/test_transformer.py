"""Every registered set builds and has the published sizes."""

import pytest

from t2t_vqem import registry
from t2t_vqem.config import HParams, hparams_class, resolve

SETS = registry.hparams_sets.names()


def test_the_documented_sets_are_registered():
    sizes = ("tiny", "small", "base", "big", "deep_shallow", "multi30k", "cldr")
    assert {f"transformer_{size}" for size in sizes} <= set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_set_builds_and_belongs_to_a_model(name):
    hparams = registry.hparams_sets.get(name)()
    assert isinstance(hparams, HParams)
    assert type(hparams) is hparams_class(hparams.model)
    assert hparams.model in registry.models.names()
    assert name.startswith(hparams.model)
    assert hparams.schedule in registry.schedules.names()
    assert resolve(hparams_set=name).hparams == hparams


@pytest.mark.parametrize(
    ("name", "layers", "hidden", "filters", "heads", "dropout"),
    [
        # Tensor2Tensor 1.15, models/transformer.py
        ("transformer_tiny", (2, 2), 128, 512, 4, 0.1),
        ("transformer_small", (2, 2), 256, 1024, 4, 0.1),
        ("transformer_base", (6, 6), 512, 2048, 8, 0.1),
        ("transformer_big", (6, 6), 1024, 4096, 16, 0.3),
        # Kasai et al. (2021)
        ("transformer_deep_shallow", (12, 1), 512, 2048, 8, 0.1),
    ],
)
def test_published_sizes(name, layers, hidden, filters, heads, dropout):
    hparams = registry.hparams_sets.get(name)()
    assert (hparams.num_encoder_layers, hparams.num_decoder_layers) == layers
    assert hparams.hidden_size == hidden
    assert hparams.filter_size == filters
    assert hparams.num_heads == heads
    assert hparams.dropout == dropout


@pytest.mark.parametrize("name", ["tiny", "small", "base", "big", "deep_shallow"])
def test_peak_learning_rate_is_that_of_tensor2tensor(name):
    hparams = registry.hparams_sets.get(f"transformer_{name}")()
    # constant * linear_warmup * rsqrt_decay * rsqrt_hidden_size with constant 2, at the end of
    # the warm-up.
    expected = 2 * hparams.hidden_size**-0.5 * hparams.warmup_steps**-0.5
    assert hparams.learning_rate == pytest.approx(expected, rel=2e-3)
