"""Beam search with length penalty.

Shapes: B batch, k beam size, T output positions, V vocabulary. Rows b*k ... b*k + k - 1 of what the
step function sees are the live hypotheses of sentence b.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from t2t_vqem.constants import EOS_ID, PAD_ID
from t2t_vqem.decoding.greedy import Decoded, StepFn, grow_cache

_IMPOSSIBLE = -1e9
LEAST_SCORE = -1e8  # what has less is no hypothesis


class _Beams(NamedTuple):
    """The state of the search: hypotheses that still grow, and the best that have ended."""

    position: tf.Tensor  # int32 scalar, tokens so far
    live: tf.Tensor  # int32 [B, k, T]
    live_scores: tf.Tensor  # float32 [B, k], log-probability in nats, best first
    ended: tf.Tensor  # int32 [B, k, T]
    ended_scores: tf.Tensor  # float32 [B, k], log-probability over length penalty, best first
    cache: Any


def length_penalty(length: tf.Tensor, alpha: float) -> tf.Tensor:
    """((5 + length) / 6)^alpha (Wu et al. 2016, equation 14)."""
    return tf.pow((5.0 + tf.cast(length, tf.float32)) / 6.0, alpha)


def beam_search(
    step_fn: StepFn,
    cache: Any,
    limits: tf.Tensor,
    beam_size: int,
    alpha: float,
    *,
    max_length: int,
    first_length: int | None = None,
    num_best: int = 1,
) -> Decoded:
    """Finds for each sentence the hypotheses of the highest log-probability over length penalty.

    A sentence's search goes on until no live hypothesis can still beat the n-th best that has
    ended, or until its limit; a hypothesis cut by the limit counts as ended there.

    Args:
      step_fn: computes the logits of the next token for [B * k] rows.
      cache: nested tensors of [B * k, ...].
      limits: int32 [B], tokens that each sentence may have, EOS included.
      beam_size: k.
      alpha: exponent of the length penalty; 0 compares plain log-probabilities.
      max_length: T, at least the largest limit.
      first_length: positions of the cache given, as in `greedy.decode`; `max_length` where None.
      num_best: n, hypotheses to return, at most k.

    Returns:
      Tokens [B * n, T] and their scores [B * n]; rows b*n ... belong to sentence b, its best first.
      Where the limit allows fewer hypotheses, the rest are all PAD, with scores below LEAST_SCORE.
    """
    batch = limits.shape[0]
    limit_penalty = length_penalty(limits, alpha)

    def body(*state):
        return tuple(_grow(_Beams(*state), step_fn, limits, beam_size, alpha))

    def run(beams, length):
        def more(*state):
            beams = _Beams(*state)
            # Log-probabilities only fall, and the longest hypothesis has the mildest penalty.
            best_possible = beams.live_scores[:, 0] / limit_penalty
            worst_kept = beams.ended_scores[:, num_best - 1]
            is_open = (best_possible > worst_kept) & (beams.position < limits)
            return (beams.position < length) & tf.reduce_any(is_open)

        return _Beams(*tf.while_loop(more, body, tuple(beams)))

    first_only = tf.where(tf.range(beam_size) == 0, 0.0, _IMPOSSIBLE)
    nothing = tf.fill([batch, beam_size, max_length], PAD_ID)
    start = _Beams(
        position=tf.constant(0),
        live=nothing,
        live_scores=tf.tile(first_only[None], [batch, 1]),
        ended=nothing,
        ended_scores=tf.fill([batch, beam_size], _IMPOSSIBLE),
        cache=cache,
    )
    beams = run(start, first_length or max_length)
    if first_length and first_length < max_length:
        beams = run(beams._replace(cache=grow_cache(beams.cache, max_length)), max_length)
    tokens = tf.reshape(beams.ended[:, :num_best], [-1, max_length])
    return Decoded(tokens, tf.reshape(beams.ended_scores[:, :num_best], [-1]))


def _grow(beams: _Beams, step_fn: StepFn, limits: tf.Tensor, beam_size: int, alpha: float):
    """Adds one token to every live hypothesis and sorts what ends from what goes on."""
    batch, _, max_length = beams.live.shape
    position = beams.position
    at_position = tf.range(max_length) == position
    before = tf.reduce_sum(tf.where(tf.range(max_length) == position - 1, beams.live, 0), -1)
    logits, cache = step_fn(tf.reshape(before, [-1]), position, beams.cache)
    vocab_size = logits.shape[-1]
    log_probs = tf.reshape(tf.nn.log_softmax(logits), [batch, beam_size, vocab_size])
    totals = tf.reshape(beams.live_scores[..., None] + log_probs, [batch, beam_size * vocab_size])

    # 2k candidates hold at least k that do not end here.
    scores, flat = tf.math.top_k(totals, 2 * beam_size)
    parents, tokens = flat // vocab_size, flat % vocab_size
    grown = tf.gather(beams.live, parents, axis=1, batch_dims=1)
    grown = tf.where(at_position, tokens[..., None], grown)
    at_limit = (position + 1 >= limits)[:, None]
    ends = (tokens == EOS_ID) | at_limit

    live_scores, chosen = tf.math.top_k(tf.where(ends, _IMPOSSIBLE, scores), beam_size)
    parents = tf.gather(parents, chosen, axis=1, batch_dims=1)
    rows = tf.reshape(parents + beam_size * tf.range(batch)[:, None], [-1])
    cache = tf.nest.map_structure(lambda c: tf.gather(c, rows), cache)

    # A sentence past its limit has no live hypothesis: its candidates are impossible ones.
    candidates = tf.where(ends, scores / length_penalty(position + 1, alpha), _IMPOSSIBLE)
    candidates = tf.where((position < limits)[:, None], candidates, _IMPOSSIBLE)
    all_ended = tf.concat([beams.ended, grown], axis=1)
    all_scores = tf.concat([beams.ended_scores, candidates], axis=1)
    ended_scores, kept = tf.math.top_k(all_scores, beam_size)
    return _Beams(
        position=position + 1,
        live=tf.gather(grown, chosen, axis=1, batch_dims=1),
        live_scores=live_scores,
        ended=tf.gather(all_ended, kept, axis=1, batch_dims=1),
        ended_scores=ended_scores,
        cache=cache,
    )
