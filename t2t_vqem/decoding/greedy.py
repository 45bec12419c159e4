"""One token at a time: the loop that greedy search and sampling share.

Shapes: B batch, T output positions, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from t2t_vqem.constants import EOS_ID, PAD_ID

# (tokens int32 [B], position int32 scalar, cache) -> (logits float32 [B, V], cache)
StepFn = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, Any]]
# (logits float32 [B, V], position int32 scalar) -> tokens int32 [B]
ChooseFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Decoded(NamedTuple):
    """What a search found."""

    tokens: tf.Tensor  # int32 [B, T], ends in EOS unless the limit cut it, then PAD
    scores: tf.Tensor  # float32 [B], log-probability in nats; beam search: over length penalty
    codes: tf.Tensor | None = None  # int32 [B, L], latents that they were decoded from, then -1
    num_repeats: tf.Tensor | None = None  # int32 [B], repeated tokens that were removed


def most_probable(logits: tf.Tensor, position: tf.Tensor | None = None) -> tf.Tensor:
    """Chooses as greedy search does: the first of the largest, [..., V] -> int32 [...]."""
    del position
    # Not tf.argmax: XLA on a CPU has no vector instructions for it.
    size = logits.shape[-1]
    is_best = logits == tf.reduce_max(logits, -1, keepdims=True)
    return tf.reduce_min(tf.where(is_best, tf.range(size), size - 1), -1)


def decode(
    step_fn: StepFn,
    cache: Any,
    limits: tf.Tensor,
    *,
    max_length: int,
    first_length: int | None = None,
    choose_fn: ChooseFn | None = None,
) -> Decoded:
    """Feeds each chosen token back until every row has ended.

    Args:
      step_fn: computes the logits of the next token; the first call gets PAD as the token before.
      cache: what step_fn keeps from step to step.
      limits: int32 [B], tokens that each row may have, EOS included; a row that reaches its limit
        ends there without EOS.
      max_length: T, at least the largest limit.
      first_length: positions of the cache given, which is `max_length` where None. Only if a row
        goes on after so many steps, the cache grows to `max_length`: a step costs time for every
        position that the cache has, and limits are far above the usual length.
      choose_fn: picks the tokens; greedy where None.

    Returns:
      Tokens and the log-probability of each row.
    """
    choose_fn = choose_fn or most_probable
    batch = limits.shape[0]
    positions = tf.range(max_length)[None]

    def body(position, token, ended, tokens, scores, cache):
        logits, cache = step_fn(token, position, cache)
        token = choose_fn(logits, position)
        logits -= tf.reduce_max(logits, -1, keepdims=True)  # known from choosing
        chosen = tf.gather(logits, token, axis=1, batch_dims=1)
        log_prob = chosen - tf.math.log(tf.reduce_sum(tf.exp(logits), -1))
        scores += tf.where(ended, 0.0, log_prob)
        token = tf.where(ended, PAD_ID, token)
        tokens = tf.where(positions == position, token[:, None], tokens)
        ended |= (token == EOS_ID) | (position + 1 >= limits)
        return position + 1, token, ended, tokens, scores, cache

    def run(state, length):
        def more(position, token, ended, *_):
            del token
            return (position < length) & ~tf.reduce_all(ended)

        return tf.while_loop(more, body, state)

    state = (
        tf.constant(0),
        tf.fill([batch], PAD_ID),
        limits <= 0,
        tf.fill([batch, max_length], PAD_ID),
        tf.zeros([batch]),
        cache,
    )
    state = run(state, first_length or max_length)
    if first_length and first_length < max_length:
        state = run((*state[:-1], grow_cache(state[-1], max_length)), max_length)
    return Decoded(tokens=state[3], scores=state[4])


def grow_cache(cache: Any, length: int) -> Any:
    """Pads every tensor's positions, its last axis but one, up to `length`."""

    def grow(x: tf.Tensor) -> tf.Tensor:
        padding = [[0, 0]] * len(x.shape)
        padding[-2] = [0, length - x.shape[-2]]
        return tf.pad(x, padding)

    return tf.nest.map_structure(grow, cache)
