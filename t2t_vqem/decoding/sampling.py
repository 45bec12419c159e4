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
        tokens = None
        if 0 < top_k < logits.shape[-1]:
            # Both results together: of a part of them alone, XLA's CPU compiler sorts whole rows.
            logits, tokens = tf.math.top_k(logits, top_k)
        uniform = row_uniform(seed, position, row_ids, logits.shape[-1])
        gumbel = -tf.math.log(-tf.math.log(uniform))
        chosen = tf.argmax(logits / temperature + gumbel, -1, output_type=tf.int32)
        return chosen if tokens is None else tf.gather(tokens, chosen, batch_dims=1)

    return choose
