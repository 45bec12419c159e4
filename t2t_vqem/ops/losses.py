"""Losses over token distributions. All are sums, in nats, so that replicas can add them."""

from typing import NamedTuple

import tensorflow as tf


class TokenLoss(NamedTuple):
    """Sums over the real target positions of a batch (float32 scalars)."""

    loss: tf.Tensor  # label-smoothed cross-entropy, nats
    nll: tf.Tensor  # cross-entropy without smoothing, nats
    correct: tf.Tensor  # positions whose most probable token is the target
    weight: tf.Tensor  # real positions
    squared_log_z: tf.Tensor  # (log Z)^2, Z being the sum of exp(logits)


def token_cross_entropy(
    logits: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor, label_smoothing: float
) -> TokenLoss:
    """Cross-entropy of targets under softmax(logits), summed over real positions.

    The smoothed target distribution gives 1 - label_smoothing to the target token and spreads
    label_smoothing uniformly over all V tokens (Szegedy et al. 2016, section 7). Its entropy is not
    subtracted from the loss.

    Args:
      logits: [B, T, V], any float type; computed in float32.
      targets: int32 [B, T].
      mask: bool [B, T], True at real positions.
      label_smoothing: in [0, 1).
    """
    logits = tf.cast(logits, tf.float32)
    vocab_size = logits.shape[-1]
    # Compares instead of gathering: this has an elementwise gradient, a gather's is a scatter.
    is_target = tf.range(vocab_size) == targets[..., None]
    target_logit = tf.reduce_sum(tf.where(is_target, logits, 0.0), -1)
    top_logit = tf.stop_gradient(tf.reduce_max(logits, -1))
    log_z = top_logit + tf.math.log(tf.reduce_sum(tf.exp(logits - top_logit[..., None]), -1))
    nll = log_z - target_logit
    loss = nll
    if label_smoothing:
        uniform_nll = log_z - tf.reduce_mean(logits, -1)
        loss = (1 - label_smoothing) * nll + label_smoothing * uniform_nll
    weights = tf.cast(mask, tf.float32)
    return TokenLoss(
        loss=tf.reduce_sum(loss * weights),
        nll=tf.reduce_sum(nll * weights),
        correct=tf.reduce_sum(tf.cast(target_logit >= top_logit, tf.float32) * weights),
        weight=tf.reduce_sum(weights),
        squared_log_z=tf.reduce_sum(tf.square(log_z) * weights),
    )


def drawn_cross_entropy(logits: tf.Tensor, drawn: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Cross-entropy with the mean of m one-hot targets, summed over real positions.

    This is the loss of a code predictor under soft EM ("Theory and Experiments on Vector Quantized
    Autoencoders", arXiv 1805.11063, section 3): the target distribution gives each of the m drawn
    codes the probability 1/m.

    Args:
      logits: [B, T, V], any float type; computed in float32.
      drawn: int32 [B, T, m], the drawn codes.
      mask: bool [B, T], True at real positions.

    Returns:
      float32 scalar, nats.
    """
    logits = tf.cast(logits, tf.float32)
    mean_logit = tf.reduce_mean(tf.gather(logits, drawn, batch_dims=2), -1)
    nll = tf.reduce_logsumexp(logits, -1) - mean_logit
    return tf.reduce_sum(tf.where(mask, nll, 0.0))
