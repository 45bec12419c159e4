"""Translations that begin with given tokens.

Shapes: B batch, P positions of the longest prefix, k beam size, V vocabulary.
"""

from collections.abc import Callable

import tensorflow as tf

from t2t_vqem.constants import PAD_ID
from t2t_vqem.decoding.greedy import ChooseFn, most_probable
from t2t_vqem.ops.masks import MASKED
from t2t_vqem.ops.shapes import sizes, smaller


def _token_at(prefix: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns the token of each row at a position, int32 [B]; PAD after the prefix."""
    ended = tf.pad(prefix, [[0, 0], [0, 1]], constant_values=PAD_ID)
    return tf.gather(ended, smaller(position, sizes(prefix)[1]), axis=1)


def begin_with(prefix: tf.Tensor, choose_fn: ChooseFn | None) -> ChooseFn:
    """Makes a function that takes the tokens of a prefix, and then those of another function.

    Args:
      prefix: int32 [B, P], PAD after the prefix of a row.
      choose_fn: chooses the tokens after the prefix; None for greedy search.
    """
    choose_fn = choose_fn or most_probable

    def choose(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        own = _token_at(prefix, position)
        return tf.where(own == PAD_ID, choose_fn(logits, position), own)

    return choose


def prefix_mask(prefix: tf.Tensor, beam_size: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes a function that masks all tokens except that of the prefix.

    Args:
      prefix: int32 [B, P], PAD after the prefix of a row.
      beam_size: k.

    Returns:
      (logits float32 [B * k, V], position) -> the same, with masked logits.
    """
    rows = tf.repeat(prefix, beam_size, axis=0)

    def mask(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        own = _token_at(rows, position)[:, None]
        allowed = (own == PAD_ID) | (tf.range(sizes(logits)[1])[None] == own)
        return tf.where(allowed, logits, MASKED)

    return mask
