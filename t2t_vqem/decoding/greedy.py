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


def most_probable(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Chooses as greedy search does."""
    del position
    return tf.argmax(logits, -1, output_type=tf.int32)


def decode(
    step_fn: StepFn,
    cache: Any,
    limits: tf.Tensor,
    *,
    max_length: int,
    choose_fn: ChooseFn | None = None,
) -> Decoded:
    """Feeds each chosen token back until every row has ended.

    Args:
      step_fn: computes the logits of the next token; the first call gets PAD as the token before.
      cache: what step_fn keeps from step to step.
      limits: int32 [B], tokens that each row may have, EOS included; a row that reaches its limit
        ends there without EOS.
      max_length: T, at least the largest limit.
      choose_fn: picks the tokens; greedy where None.

    Returns:
      Tokens and the log-probability of each row.
    """
    choose_fn = choose_fn or most_probable
    batch = limits.shape[0]
    positions = tf.range(max_length)[None]

    def more(position, token, ended, tokens, scores, cache):
        del token, tokens, scores, cache
        return (position < max_length) & ~tf.reduce_all(ended)

    def body(position, token, ended, tokens, scores, cache):
        logits, cache = step_fn(token, position, cache)
        token = choose_fn(logits, position)
        chosen = tf.gather(logits, token, axis=1, batch_dims=1)
        log_prob = chosen - tf.reduce_logsumexp(logits, -1)
        scores += tf.where(ended, 0.0, log_prob)
        token = tf.where(ended, PAD_ID, token)
        tokens = tf.where(positions == position, token[:, None], tokens)
        ended |= (token == EOS_ID) | (position + 1 >= limits)
        return position + 1, token, ended, tokens, scores, cache

    start = (
        tf.constant(0),
        tf.fill([batch], PAD_ID),
        limits <= 0,
        tf.fill([batch, max_length], PAD_ID),
        tf.zeros([batch]),
        cache,
    )
    _, _, _, tokens, scores, _ = tf.while_loop(more, body, start)
    return Decoded(tokens, scores)
