"""Masks and attention biases. A mask is boolean and True at real positions."""

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import PAD_ID

# Not -inf: a row of padding alone must give finite numbers, which are then weighted with zero.
MASKED = -1e9


def padding_mask(ids: tf.Tensor) -> tf.Tensor:
    """Returns the mask of the tokens that are not padding: ids int [B, T] -> bool [B, T]."""
    return tf.not_equal(ids, PAD_ID)


def num_tokens(ids: tf.Tensor) -> tf.Tensor:
    """Counts the tokens of each row that are not padding: ids int [B, T] -> int32 [B]."""
    return tf.reduce_sum(tf.cast(padding_mask(ids), tf.int32), 1)


def padding_bias(mask: tf.Tensor) -> tf.Tensor:
    """Attention bias that masks padding: mask bool [B, S] -> float32 [B, 1, 1, S]."""
    bias = tf.where(mask, 0.0, MASKED)
    return tf.expand_dims(tf.expand_dims(bias, 1), 1)  # both in one slice has no LiteRT operation


def causal_bias(length: int) -> tf.Tensor:
    """Attention bias that masks the future: float32 [1, 1, T, T], 0 at and below the diagonal."""
    positions = tf.range(length)
    return tf.where(positions[:, None] >= positions[None, :], 0.0, MASKED)[None, None]


def prefix_bias(position: tf.Tensor, length: int) -> tf.Tensor:
    """Attention bias that masks cache entries after `position`: float32 [1, 1, 1, T]."""
    return tf.where(tf.range(length) <= position, 0.0, MASKED)[None, None, None]


def mask_padding_token(logits: tf.Tensor) -> tf.Tensor:
    """Masks the logit of PAD: logits [..., V] of any float type -> float32 [..., V]."""
    # A sum, not a selection: it becomes part of the product that makes the logits.
    mask = np.zeros(logits.shape[-1], np.float32)
    mask[PAD_ID] = MASKED
    return tf.cast(logits, tf.float32) + mask
