"""Beam search with length penalty.

Shapes: B batch, k beam size, T output positions, V vocabulary. In the step function, rows b*k ...
b*k + k - 1 are the live hypotheses of sentence b.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from t2t_vqem.constants import EOS_ID, PAD_ID
from t2t_vqem.decoding.greedy import Decoded, StepFn, log_normalizer, run_steps
from t2t_vqem.ops.shapes import Size, sizes

_IMPOSSIBLE = -1e9


class _Hypotheses(NamedTuple):
    """The same number of hypotheses for each sentence."""

    tokens: tf.Tensor  # int32 [B, k, T]
    log_probs: tf.Tensor  # float32 [B, k, T], of each token

    def pick(self, indices: tf.Tensor) -> "_Hypotheses":
        """Selects hypotheses by their indices, int32 [B, n]."""
        return _Hypotheses(*(tf.gather(x, indices, axis=1, batch_dims=1) for x in self))


class _Beams(NamedTuple):
    """The state of the search: the live hypotheses, and the best finished ones."""

    position: tf.Tensor  # int32 scalar, number of tokens so far
    live: _Hypotheses
    live_scores: tf.Tensor  # float32 [B, k], log-probability in nats, best first
    ended: _Hypotheses
    ended_scores: tf.Tensor  # float32 [B, k], log-probability over length penalty, best first
    cache: Any


def length_penalty(length: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
    """((5 + length) / 6)^alpha (Wu et al. 2016, equation 14)."""
    return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, alpha)


def beam_search(
    step_fn: StepFn,
    cache: Any,
    limits: tf.Tensor,
    beam_size: int,
    alpha: float | tf.Tensor,
    *,
    max_length: Size,
    first_length: Size | None = None,
    num_best: int = 1,
    mask_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
) -> Decoded:
    """Finds the hypotheses with the highest log-probability divided by the length penalty.

    The search for a sentence ends when no live hypothesis can beat the n-th best finished one, or
    at the length limit. A hypothesis that the limit cuts counts as finished.

    Args:
      step_fn: computes the logits of the next token for [B * k] rows.
      cache: nested tensors of [B * k, ...].
      limits: int32 [B], the largest number of tokens of each sentence, including EOS.
      beam_size: k.
      alpha: exponent of the length penalty; 0 compares plain log-probabilities.
      max_length: T, at least the largest limit.
      first_length: number of positions in the given cache, as in `greedy.run_steps`.
      num_best: n, the number of hypotheses to return, at most k.
      mask_fn: (logits, position) -> logits with those of impossible tokens masked; None: all are
        possible. Log-probabilities are those of the unmasked logits.

    Returns:
      Tokens [B * n, T] and their scores [B * n]. Rows b*n ... belong to sentence b, the best one
      first. If the limit allows fewer hypotheses, the other rows are PAD, with scores below
      LEAST_SCORE.
    """
    (batch,) = sizes(limits)
    limit_penalty = length_penalty(limits, alpha)

    def is_open(beams: _Beams) -> tf.Tensor:
        # Log-probabilities only decrease, and the longest hypothesis gets the largest divisor.
        best_possible = beams.live_scores[:, 0] / limit_penalty
        worst_kept = beams.ended_scores[:, num_best - 1]
        return tf.reduce_any((best_possible > worst_kept) & (beams.position < limits))

    first_only = tf.where(tf.range(beam_size) == 0, 0.0, _IMPOSSIBLE)
    nothing = _Hypotheses(
        tf.fill([batch, beam_size, max_length], PAD_ID), tf.zeros([batch, beam_size, max_length])
    )
    start = _Beams(
        position=tf.constant(0),
        live=nothing,
        live_scores=tf.tile(first_only[None], [batch, 1]),
        ended=nothing,
        ended_scores=tf.fill([batch, beam_size], _IMPOSSIBLE),
        cache=cache,
    )
    beams = run_steps(
        lambda beams: _grow(beams, step_fn, limits, beam_size, alpha, mask_fn),
        is_open,
        start,
        max_length=max_length,
        first_length=first_length,
    )
    tokens, log_probs = (tf.reshape(x[:, :num_best], [-1, max_length]) for x in beams.ended)
    return Decoded(
        tokens=tokens,
        scores=tf.reshape(beams.ended_scores[:, :num_best], [-1]),
        log_probs=log_probs,
    )


def _grow(
    beams: _Beams,
    step_fn: StepFn,
    limits: tf.Tensor,
    beam_size: int,
    alpha: float | tf.Tensor,
    mask_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None,
) -> _Beams:
    """Adds one token to every live hypothesis, and separates finished from live ones."""
    batch, _, max_length = sizes(beams.live.tokens)
    position = beams.position
    at_position = tf.range(max_length) == position
    before = tf.where(tf.range(max_length) == position - 1, beams.live.tokens, 0)
    before = tf.reduce_sum(before, -1)
    logits, cache = step_fn(tf.reshape(before, [-1]), position, beams.cache)

    # Of 2k candidates, at least k do not end here: each of the k parents has only one EOS. They are
    # among the 2k best of each parent.
    num_next = min(2 * beam_size, logits.shape[-1])
    possible = logits if mask_fn is None else mask_fn(logits, position)
    log_probs, next_tokens = tf.math.top_k(possible, num_next)
    log_probs -= tf.expand_dims(log_normalizer(logits), -1)
    totals = tf.reshape(beams.live_scores, [-1, 1]) + log_probs
    totals, log_probs, next_tokens = (
        tf.reshape(x, [-1, beam_size * num_next]) for x in (totals, log_probs, next_tokens)
    )
    scores, flat = tf.math.top_k(totals, 2 * beam_size)
    added, tokens = (tf.gather(x, flat, axis=1, batch_dims=1) for x in (log_probs, next_tokens))
    parents = flat // num_next
    grown = beams.live.pick(parents)
    grown = _Hypotheses(
        tf.where(at_position, tokens[..., None], grown.tokens),
        tf.where(at_position, added[..., None], grown.log_probs),
    )
    at_limit = (position + 1 >= limits)[:, None]
    ends = (tokens == EOS_ID) | at_limit

    live_scores, chosen = tf.math.top_k(tf.where(ends, _IMPOSSIBLE, scores), beam_size)
    parents = tf.gather(parents, chosen, axis=1, batch_dims=1)
    rows = tf.reshape(parents + beam_size * tf.range(batch)[:, None], [-1])
    cache = tf.nest.map_structure(lambda c: tf.gather(c, rows), cache)

    # A sentence beyond its limit has no live hypothesis, so its candidates are impossible.
    candidates = tf.where(ends, scores / length_penalty(position + 1, alpha), _IMPOSSIBLE)
    candidates = tf.where((position < limits)[:, None], candidates, _IMPOSSIBLE)
    both = zip(beams.ended, grown, strict=True)
    all_ended = _Hypotheses(*(tf.concat(pair, axis=1) for pair in both))
    all_scores = tf.concat([beams.ended_scores, candidates], axis=1)
    ended_scores, kept = tf.math.top_k(all_scores, beam_size)
    return _Beams(
        position=position + 1,
        live=grown.pick(chosen),
        live_scores=live_scores,
        ended=all_ended.pick(kept),
        ended_scores=ended_scores,
        cache=cache,
    )
