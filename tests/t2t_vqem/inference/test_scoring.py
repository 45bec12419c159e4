"""Scores of given translations against the model's own steps, one token at a time."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import EOS_ID, PAD_ID, UsageError
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.hparams.vqvae import VQVAEHParams
from t2t_vqem.inference.scoring import load_scorer

SIZES = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "hidden_size": 16,
    "filter_size": 16,
    "num_heads": 2,
    "max_length": 32,
}
PAIRS = [
    ("one two three", "drei zwei eins"),
    ("", "eins"),
    ("one", ""),
    ("ten " * 100, "zehn " * 100),
    ("one two", "eins zwei drei vier fünf sechs sieben"),
]


@pytest.fixture(scope="module")
def run(untrained_run, tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("run"), TransformerHParams(**SIZES))


@pytest.fixture(scope="module")
def latent_run(untrained_run, tmp_path_factory):
    sizes = {"num_predictor_layers": 1, "num_target_encoder_layers": 1}
    hparams = TransformerNATHParams(**SIZES, **sizes, num_codes=9, code_size=4)
    return untrained_run(tmp_path_factory.mktemp("latent"), hparams)


def by_steps(run, source, target):
    """The log-probability of each token, each step in float64 from the logits of a search."""
    model, vocabulary = run.build_model(), run.vocabulary()
    run.restore_for_inference(model)
    inputs = [*vocabulary.encode(source)[: SIZES["max_length"] - 1], EOS_ID]
    tokens = [*vocabulary.encode(target), EOS_ID]
    step, cache = model.step_fn(tf.constant([inputs]), len(tokens))
    found, before = [], PAD_ID
    for position, token in enumerate(tokens):
        logits, cache = step(tf.constant([before]), tf.constant(position), cache)
        logits = logits.numpy()[0].astype(np.float64)
        found.append(logits[token] - np.logaddexp.reduce(logits))
        before = token
    return found


def test_scores_are_those_of_the_steps(run):
    scored = list(load_scorer(run, None, batch_tokens=64).score(PAIRS))
    assert len(scored) == len(PAIRS)
    for (source, target), found in zip(PAIRS, scored, strict=True):
        expected = by_steps(run, source, target)
        np.testing.assert_allclose([t.log_prob for t in found.tokens], expected, rtol=1e-4)
        np.testing.assert_allclose(found.score, sum(expected), rtol=1e-4)
        assert run.vocabulary().decode([t.id for t in found.tokens]) == target


def test_a_latent_model_scores_latents_and_tokens(latent_run):
    for pair in load_scorer(latent_run, None).score(PAIRS):
        assert len(pair.code_log_probs) == len(pair.codes) + 1
        expected = sum(t.log_prob for t in pair.tokens) + sum(pair.code_log_probs)
        np.testing.assert_allclose(pair.score, expected, rtol=1e-4)


def test_a_model_that_does_not_score_is_refused(run, monkeypatch):
    monkeypatch.setattr(type(run), "hparams", lambda self: VQVAEHParams())
    message = "'vqvae', which cannot score given translations. Expected one of: transf"
    with pytest.raises(UsageError, match=message):
        load_scorer(run, None)
