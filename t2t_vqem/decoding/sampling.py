"""Choosing tokens at random: temperature and top-k sampling for the decoding loop."""

import tensorflow as tf

from t2t_vqem.decoding.greedy import ChooseFn
from t2t_vqem.ops.random import row_uniform


def sampler(temperature: float, top_k: int = 0, *, seed, row_ids: tf.Tensor) -> ChooseFn:
    """Makes a function that draws from softmax(logits / temperature) by the Gumbel-max trick.

    Args:
      temperature: above 0; 1 samples from the model's own distribution.
      top_k: draw among the k most probable tokens only; 0 is all.
      seed: scalar int.
      row_ids: int32 [B]; a row's draws depend on the seed, its id and the position, not on the
        batch that it happens to be in.

    Returns:
      (logits float32 [B, V], position) -> tokens int32 [B].
    """

    def choose(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        vocab_size = logits.shape[-1]
        if 0 < top_k < vocab_size:
            threshold = tf.math.top_k(logits, top_k).values[:, -1:]
            logits = tf.where(logits >= threshold, logits, -1e9)
        uniform = row_uniform(seed, position, row_ids, vocab_size)
        gumbel = -tf.math.log(-tf.math.log(uniform))
        return tf.argmax(logits / temperature + gumbel, -1, output_type=tf.int32)

    return choose
