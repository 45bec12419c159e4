"""Candidates and tokens that came all at once, on cases made by hand and against loops."""

import itertools

import numpy as np
import tensorflow as tf

from t2t_vqem.decoding.candidates import (
    best_candidate,
    end_at_eos,
    first_greedy,
    remove_fill,
    remove_repeats,
)


def test_repeats_are_removed_and_the_rest_moves_up():
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 5, [50, 9])
    lengths = rng.integers(0, 10, 50)
    tokens[np.arange(9)[None] >= lengths[:, None]] = 0
    found, removed = remove_repeats(tf.constant(tokens))
    for row, length, result, count in zip(tokens, lengths, found, removed, strict=True):
        expected = [token for token, _ in itertools.groupby(row[:length].tolist())]
        assert result.numpy().tolist() == expected + [0] * (9 - len(expected))
        assert int(count) == length - len(expected)
    assert np.max(removed) > 2


def test_fill_is_removed_and_the_rest_moves_up():
    tokens = tf.constant([[5, 2, 2, 5, 1, 0], [2, 2, 6, 7, 2, 1], [2, 2, 2, 2, 2, 1], [0] * 6])
    expected = [[5, 5, 1, 0, 0, 0], [6, 7, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0] * 6]
    np.testing.assert_array_equal(remove_fill(tokens), expected)


def test_rows_end_at_their_first_eos_or_with_one():
    tokens = tf.constant([[5, 1, 6, 1], [5, 6, 7, 8], [1, 5, 5, 5], [5, 6, 7, 8], [5, 6, 7, 8]])
    found = end_at_eos(tokens, tf.constant([4, 4, 4, 2, 0]))
    expected = [[5, 1, 0, 0, 0], [5, 6, 7, 8, 1], [1, 0, 0, 0, 0], [5, 6, 1, 0, 0], [0] * 5]
    np.testing.assert_array_equal(found, expected)


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
    assert best_candidate(scores, 3).numpy().tolist() == [1, 3]
    assert best_candidate(scores, 1).numpy().tolist() == [0, 1, 2, 3, 4, 5]
