"""Searches that begin with given tokens, against brute force over a small language."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import EOS_ID, LEAST_SCORE
from t2t_vqem.decoding.beam import beam_search, length_penalty
from t2t_vqem.decoding.greedy import decode
from t2t_vqem.decoding.prefix import begin_with, prefix_mask
from t2t_vqem.decoding.sampling import sampler
from tests.t2t_vqem.decoding.test_decoding import (
    B,
    T,
    all_hypotheses,
    language,
    log_prob,
    step_fn,
    strip,
)

PREFIX = np.array([[3, 2], [4, 0], [0, 0]], np.int32)
STARTS = [(3, 2), (4,), ()]


def test_greedy_search_continues_the_prefix():
    table = language()
    step, cache = step_fn(table)
    choose = begin_with(tf.constant(PREFIX), None)
    decoded = decode(step, cache, tf.fill([B], T), max_length=T, choose_fn=choose)
    for b, start in enumerate(STARTS):
        expected = list(start)
        while len(expected) < T and EOS_ID not in expected:
            before = expected[-1] if expected else 0
            expected.append(int(table[b, len(expected), before].argmax()))
        assert strip(decoded.tokens[b]) == tuple(expected)
        np.testing.assert_allclose(decoded.scores[b], log_prob(table, b, expected), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_the_n_best_of_a_wide_beam_are_the_n_best_that_begin_so(alpha):
    table, beam_size, num = language(1), 64, 6
    step, cache = step_fn(table, beam_size)
    found = beam_search(
        step,
        cache,
        tf.fill([B], T),
        beam_size,
        alpha,
        max_length=T,
        num_best=num,
        mask_fn=prefix_mask(tf.constant(PREFIX), beam_size),
    )
    for b, start in enumerate(STARTS):
        scored = sorted(
            (
                (log_prob(table, b, h) / float(length_penalty(tf.constant(len(h)), alpha)), h)
                for h in all_hypotheses(T)
                if h[: len(start)] == start
            ),
            reverse=True,
        )
        rows = range(b * num, (b + 1) * num)
        assert [strip(found.tokens[row]) for row in rows] == [h for _, h in scored[:num]]
        scores = found.scores.numpy()[rows]
        np.testing.assert_allclose(scores, [score for score, _ in scored[:num]], rtol=1e-5)
        assert (scores > LEAST_SCORE).all()


def test_samples_continue_the_prefix_by_the_models_own_draws():
    """After the prefix, the draws are those of a search without one at the same positions."""
    table = language(2)
    choose = sampler(1.0, seed=5, row_ids=tf.range(B))
    step, cache = step_fn(table)
    forced = begin_with(tf.constant(PREFIX), choose)
    decoded = decode(step, cache, tf.fill([B], T), max_length=T, choose_fn=forced)
    for b, start in enumerate(STARTS):
        expected = list(start)
        while len(expected) < T and EOS_ID not in expected:
            position, before = len(expected), expected[-1] if expected else 0
            logits = tf.constant(table[:, position, before])
            expected.append(int(choose(logits, tf.constant(position))[b]))
        assert strip(decoded.tokens[b]) == tuple(expected)
