"""Candidates and tokens decoded in parallel: cases by hand, and comparison with loops."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.decoding import candidates
from t2t_vqem.decoding.candidates import (
    Placed,
    best_candidates,
    choose_tokens,
    end_at_eos,
    first_greedy,
    log_probs_of,
    remove_fill,
    remove_repeats,
)
from t2t_vqem.ops import blocks


def placed(tokens):
    """Returns tokens with numbers that encode their positions."""
    tokens = tf.constant(tokens, tf.int32)
    places = tf.where(tokens == 0, -1, tf.range(tokens.shape[1]))
    return Placed(tokens, tf.where(tokens == 0, 0.0, tf.cast(places, tf.float32) - 9.0), places)


def check_places(found, original):
    """Checks that each token kept its data, and that missing tokens have none."""
    for tokens, log_probs, latents, before in zip(*found, original.tokens, strict=True):
        for token, log_prob, latent in zip(tokens, log_probs, latents, strict=True):
            if token == 0:
                assert (float(log_prob), int(latent)) == (0.0, -1)
            else:
                assert token == before[int(latent)]
                assert float(log_prob) == int(latent) - 9


def test_repeated_tokens_are_removed():
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 5, [50, 9])
    lengths = rng.integers(0, 10, 50)
    tokens[np.arange(9)[None] >= lengths[:, None]] = 0
    original = placed(tokens)
    found, removed = remove_repeats(original)
    check_places(found, original)
    for row, length, result, count in zip(tokens, lengths, found.tokens, removed, strict=True):
        expected = [token for token, _ in itertools.groupby(row[:length].tolist())]
        assert result.numpy().tolist() == expected + [0] * (9 - len(expected))
        assert int(count) == length - len(expected)
    assert np.max(removed) > 2


def test_fill_is_removed():
    tokens = np.array([[5, 2, 2, 5, 1, 0], [2, 2, 6, 7, 2, 1], [2, 2, 2, 2, 2, 1], [0] * 6])
    expected = [[5, 5, 1, 0, 0, 0], [6, 7, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0] * 6]
    found = remove_fill(placed(tokens))
    np.testing.assert_array_equal(found.tokens, expected)
    check_places(found, placed(tokens))


def test_rows_end_at_their_first_eos_or_get_one():
    tokens = tf.constant([[5, 1, 6, 1], [5, 6, 7, 8], [1, 5, 5, 5], [5, 6, 7, 8], [5, 6, 7, 8]])
    log_probs = tf.fill([5, 4], -2.0)
    found = end_at_eos(tokens, log_probs, tf.constant([2, 2, 2, 1, 0]), 2)
    expected = [[5, 1, 0, 0, 0], [5, 6, 7, 8, 1], [1, 0, 0, 0, 0], [5, 6, 1, 0, 0], [0] * 5]
    np.testing.assert_array_equal(found.tokens, expected)
    # The added EOS belongs to no latent and has probability 1.
    latents = [[0, 0, -1, -1, -1], [0, 0, 1, 1, -1], [0] + [-1] * 4, [0, 0, -1, -1, -1], [-1] * 5]
    np.testing.assert_array_equal(found.latents, latents)
    np.testing.assert_array_equal(found.log_probs, np.where(np.array(latents) < 0, 0, -2))


def test_rows_are_cut_or_padded():
    rows = placed([[5, 6, 1], [7, 1, 0]])
    np.testing.assert_array_equal(rows.fit(2).tokens, [[5, 6], [7, 1]])
    filled = rows.fit(4)
    np.testing.assert_array_equal(filled.tokens, [[5, 6, 1, 0], [7, 1, 0, 0]])
    np.testing.assert_array_equal(filled.latents, [[0, 1, 2, -1], [0, 1, -1, -1]])


def test_the_first_candidate_of_each_sentence_is_greedy():
    logits = tf.constant(np.random.default_rng(0).normal(size=[6, 4]).astype(np.float32))

    def last(logits, position):
        del position
        return tf.fill([logits.shape[0]], 9)

    chosen = first_greedy(last, 3)(logits, tf.constant(0)).numpy()
    best = logits.numpy().argmax(-1)
    assert chosen.tolist() == [best[0], 9, 9, best[3], 9, 9]


def test_the_best_candidate_is_found_for_each_sentence():
    scores = tf.constant([-3.0, -1.0, -2.0, -5.0, -6.0, -7.0])
    assert best_candidates(scores, 3).numpy().tolist() == [1, 3]
    assert best_candidates(scores, 1).numpy().tolist() == [0, 1, 2, 3, 4, 5]
    assert best_candidates(scores, 3, 2).numpy().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("at_a_time", [2**25, 40], ids=["one block", "blocks"])
def test_tokens_and_their_probabilities_are_those_of_the_softmax(monkeypatch, compiled, at_a_time):
    monkeypatch.setattr(candidates, "_LOGITS", at_a_time)
    monkeypatch.setattr(blocks, "LEAST_ROWS", 4)
    rng = np.random.default_rng(0)
    x, table = (rng.normal(size=s).astype(np.float32) for s in ([5, 3, 6], [9, 6]))
    x[0, 0] = 3 * table[0]  # PAD would be the most probable token here
    tokens = rng.integers(0, 9, [5, 3])

    def both(x, tokens):
        def logits_fn(rows):
            assert rows.shape[0] == (15 if at_a_time > 40 else 4)
            return tf.matmul(rows, table, transpose_b=True)

        return *choose_tokens(logits_fn, x, 9), log_probs_of(tokens, logits_fn, x, 9)

    call = tf.function(both, jit_compile=True, autograph=False) if compiled else both
    chosen, log_probs, found = call(tf.constant(x), tf.constant(tokens, tf.int32))
    logits = x.astype(np.float64) @ table.astype(np.float64).T
    assert logits[0, 0].argmax() == 0
    expected = np.take_along_axis(log_softmax(logits), tokens[..., None], -1)
    np.testing.assert_allclose(found, expected[..., 0], atol=1e-5)
    logits[..., 0] = -np.inf
    np.testing.assert_array_equal(chosen, logits.argmax(-1))
    np.testing.assert_allclose(log_probs, log_softmax(logits).max(-1), atol=1e-5)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
