"""Greedy decoding, beam search and sampling against brute force over a small language."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import EOS_ID, LEAST_SCORE, UsageError
from t2t_vqem.decoding.beam import beam_search, length_penalty
from t2t_vqem.decoding.greedy import decode
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.decoding.sampling import sampler

B, V, T = 3, 5, 4


def language(seed: int = 0) -> np.ndarray:
    """Log-probabilities float32 [B, T, V, V]: sentence, position, previous token, token."""
    logits = np.random.default_rng(seed).normal(0, 1.5, [B, T, V, V])
    logits[..., 0] = -1e9  # PAD
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def step_fn(table: np.ndarray, beam_size: int = 1):
    """A step function whose cache holds each row's sentence, so that wrong gathers are detected."""
    table = tf.constant(table)

    def step(tokens, position, cache):
        return tf.gather_nd(
            table, tf.stack([cache, tf.fill(cache.shape, position), tokens], 1)
        ), cache

    return step, tf.repeat(tf.range(B), beam_size)


def all_hypotheses(limit: int):
    """Every token sequence that ends in EOS or is truncated at the limit."""
    others = [t for t in range(1, V) if t != EOS_ID]
    for length in range(1, limit + 1):
        for body in itertools.product(others, repeat=length - 1):
            yield (*body, EOS_ID)
    yield from itertools.product(others, repeat=limit)


def log_prob(table: np.ndarray, sentence: int, tokens) -> float:
    pairs = zip((0, *tokens[:-1]), tokens, strict=True)
    return sum(float(table[sentence, t, b, y]) for t, (b, y) in enumerate(pairs))


def strip(row) -> tuple:
    return tuple(int(token) for token in row if token)


def test_greedy_takes_the_most_probable_token_at_each_step():
    table = language()
    step, cache = step_fn(table)
    decoded = decode(step, cache, tf.fill([B], T), max_length=T)
    for b in range(B):
        before, expected = 0, []
        while len(expected) < T and before != EOS_ID:
            before = int(table[b, len(expected), before].argmax())
            expected.append(before)
        assert strip(decoded.tokens[b]) == tuple(expected)
        np.testing.assert_allclose(decoded.scores[b], log_prob(table, b, expected), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("limits", [[4, 4, 4], [2, 4, 1]], ids=["equal", "unequal"])
def test_a_beam_as_wide_as_the_space_finds_the_best_of_all(alpha, limits):
    table, beam_size = language(1), 64
    step, cache = step_fn(table, beam_size)
    found = beam_search(step, cache, tf.constant(limits), beam_size, alpha, max_length=T)
    for b, limit in enumerate(limits):
        scored = [
            (log_prob(table, b, h) / float(length_penalty(tf.constant(len(h)), alpha)), h)
            for h in all_hypotheses(limit)
        ]
        score, best = max(scored)
        assert strip(found.tokens[b]) == best
        np.testing.assert_allclose(found.scores[b], score, rtol=1e-5)


@pytest.mark.parametrize("limits", [[4, 4, 4], [2, 4, 1]], ids=["equal", "unequal"])
def test_the_n_best_of_a_wide_beam_are_the_n_best_of_all(limits):
    table, beam_size, num = language(1), 64, 6
    step, cache = step_fn(table, beam_size)
    found = beam_search(
        step, cache, tf.constant(limits), beam_size, 0.6, max_length=T, num_best=num
    )
    for b, limit in enumerate(limits):
        scored = sorted(
            (
                (log_prob(table, b, h) / float(length_penalty(tf.constant(len(h)), 0.6)), h)
                for h in all_hypotheses(limit)
            ),
            reverse=True,
        )
        rows = range(b * num, b * num + min(num, len(scored)))
        assert [strip(found.tokens[row]) for row in rows] == [h for _, h in scored[:num]]
        scores = [score for score, _ in scored[:num]]
        np.testing.assert_allclose(found.scores.numpy()[rows], scores, rtol=1e-5)
        rest = found.scores[rows.stop : (b + 1) * num].numpy()
        assert (rest < LEAST_SCORE).all()
        assert len(rest) == max(0, num - len(scored))


def test_a_narrow_beam_keeps_sentences_separate():
    table = language(2)
    step, cache = step_fn(table, 2)
    together = beam_search(step, cache, tf.fill([B], T), 2, 0.6, max_length=T)
    for b in range(B):
        alone, cache = step_fn(table[b : b + 1])
        one = beam_search(alone, tf.zeros([2], tf.int32), tf.fill([1], T), 2, 0.6, max_length=T)
        np.testing.assert_array_equal(one.tokens[0], together.tokens[b])


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_one_goes_on_past_an_end_that_may_be_beaten(seed):
    """It continues with the best token other than EOS, and returns the best end it has seen.

    EOS ends a hypothesis if it is among the two best tokens, twice as many as the beam has rows.
    """
    table = language(seed)
    step, cache = step_fn(table)
    beam = beam_search(step, cache, tf.fill([B], T), 1, 0.0, max_length=T)
    for b in range(B):
        way, ends = (), []
        for position in range(T):
            log_p = table[b, position, way[-1] if way else 0].copy()
            if EOS_ID in log_p.argsort()[-2:]:
                ends.append((*way, EOS_ID))
            log_p[EOS_ID] = -np.inf
            way = (*way, int(log_p.argmax()))
        score, best = max((log_prob(table, b, end), end) for end in [*ends, way])
        assert strip(beam.tokens[b]) == best
        np.testing.assert_allclose(beam.scores[b], score, rtol=1e-5)


def test_a_beam_of_one_without_penalty_equals_greedy_without_an_early_eos():
    table = language(3)
    table[:, : T - 1, :, EOS_ID] = -50
    step, cache = step_fn(table)
    greedy = decode(step, cache, tf.fill([B], T), max_length=T)
    beam = beam_search(step, cache, tf.fill([B], T), 1, 0.0, max_length=T)
    np.testing.assert_array_equal(beam.tokens, greedy.tokens)
    np.testing.assert_allclose(beam.scores, greedy.scores, rtol=1e-5)


def test_limits_cut_and_a_limit_of_zero_gives_nothing():
    table = language()
    table[..., EOS_ID] = -50
    step, cache = step_fn(table)
    decoded = decode(step, cache, tf.constant([2, 0, 4]), max_length=T)
    assert [len(strip(row)) for row in decoded.tokens] == [2, 0, 4]
    assert float(decoded.scores[1]) == 0


def test_compiled_equals_eager():
    table = language(4)

    def greedy():
        step, cache = step_fn(table)
        return decode(step, cache, tf.fill([B], T), max_length=T)

    def beam():
        step, cache = step_fn(table, 3)
        return beam_search(step, cache, tf.fill([B], T), 3, 0.6, max_length=T)

    for fn in (greedy, beam):
        compiled = tf.function(fn, jit_compile=True)()
        np.testing.assert_array_equal(compiled.tokens, fn().tokens)
        np.testing.assert_allclose(compiled.scores, fn().scores, rtol=1e-5)


@pytest.mark.parametrize("temperature,top_k", [(1.0, 0), (0.5, 0), (1.0, 2)])
def test_sample_frequencies_follow_the_softmax(temperature, top_k):
    logits = np.array([0.5, -1.0, 1.2, 0.0, 0.9], np.float32)
    n = 20000
    choose = sampler(temperature, top_k, seed=7, row_ids=tf.range(n))
    tokens = choose(tf.tile(logits[None], [n, 1]), tf.constant(3)).numpy()
    p = np.exp(logits.astype(float) / temperature)
    if top_k:
        p[logits < np.sort(logits)[-top_k]] = 0
    p /= p.sum()
    deviation = np.sqrt(p * (1 - p) / n)
    frequencies = np.bincount(tokens, minlength=V) / n
    assert (np.abs(frequencies - p) <= 5 * deviation).all()


def test_samples_depend_on_the_row_id_and_the_seed_not_on_the_batch():
    table = language(5)
    step, cache = step_fn(table)

    def sample(rows, seed):
        """Returns samples of the first sentence, one for each id."""
        choose = sampler(1.0, seed=seed, row_ids=tf.constant(rows))
        sentence, limits = tf.repeat(cache[:1], len(rows)), tf.fill([len(rows)], T)
        found = decode(step, sentence, limits, max_length=T, choose_fn=choose)
        return [strip(row) for row in found.tokens]

    together = [sample(range(8), seed) for seed in range(2)]
    for row in range(8):
        assert sample([row], 0) == [together[0][row]]
    assert sample([5, 2], 1) == [together[1][5], together[1][2]]
    assert len(set(together[0])) > 2 and together[0] != together[1]


@pytest.mark.parametrize(
    "options,message",
    [
        ({"beam_size": 0}, "beam_size must be at least 1, got 0"),
        ({"beam_size": 3, "num_best": 4}, "num_best 4: .* from 1 to 3, which is beam_size"),
        (
            {"beam_size": 9, "num_candidates": 4, "num_best": 5},
            "num_best 5: .* from 1 to 4, .* num_candidates",
        ),
        ({"num_candidates": 3, "beam_size": 2}, "set beam_size to 3 or more, or set sampling_temp"),
        ({"extra_length": 0}, "extra_length must be at least 1, got 0"),
        ({"sampling_temperature": -1.0}, "must not be negative, got -1.0 and 0"),
        ({"beam_size": 4, "sampling_temperature": 1.0}, "exclude each other"),
        ({"sampling_top_k": 5}, "has no effect without a sampling temperature"),
    ],
)
def test_invalid_options_are_errors(options, message):
    with pytest.raises(UsageError, match=message):
        DecodeOptions(**options)


def test_a_beam_stops_when_nothing_can_beat_the_best_that_has_ended():
    """It need not wait until all kept hypotheses are beaten, many steps later."""
    probabilities = np.full([B, 30, V, V], 1e-4)
    probabilities[:, 0, :, 3] = 1
    probabilities[:, 1:, :, EOS_ID] = 1
    table = np.log(probabilities / probabilities.sum(-1, keepdims=True)).astype(np.float32)
    step, cache = step_fn(table, 4)
    positions = []

    def counted(tokens, position, cache):
        positions.append(int(position))
        return step(tokens, position, cache)

    found = beam_search(counted, cache, tf.fill([B], 30), 4, 0.6, max_length=30)
    assert [strip(row) for row in found.tokens] == [(3, EOS_ID)] * B
    assert positions == [0, 1]


@pytest.mark.parametrize("first_length", [1, 3, T])
def test_a_beam_s_cache_grows_without_a_change(first_length):
    """The next token depends on all previous ones, which only the cache holds."""
    weights = tf.constant(np.random.default_rng(5).normal(0, 2, [T, V]), tf.float32)

    def step(tokens, position, cache):
        here = tf.range(cache.shape[-2])[:, None] == position
        cache = tf.where(here, tf.cast(tokens, tf.float32)[:, None, None], cache)
        logits = tf.einsum("npi,pv->nv", cache, weights[: cache.shape[-2]]) + weights[position]
        return tf.where(tf.range(V) == 0, -1e9, logits), cache

    def search(first_length):
        cache = tf.zeros([B * 3, first_length or T, 1])
        limits = tf.constant([T, 2, T])
        return beam_search(step, cache, limits, 3, 0.6, max_length=T, first_length=first_length)

    np.testing.assert_array_equal(search(first_length).tokens, search(None).tokens)
    np.testing.assert_allclose(search(first_length).scores, search(None).scores, rtol=1e-6)
