"""Temperature and top-k sampling for the decoding loop."""

import tensorflow as tf

from t2t_vqem.decoding.greedy import ChooseFn, most_probable
from t2t_vqem.ops.random import row_uniform
from t2t_vqem.ops.shapes import sizes, smaller


def sampler(
    temperature: float | tf.Tensor, top_k: int | tf.Tensor = 0, *, seed, row_ids: tf.Tensor
) -> ChooseFn:
    """Makes a function that draws from softmax(logits / temperature) by the Gumbel-max trick.

    Args:
      temperature: 1 samples from the model's distribution. A tensor may be 0, which means greedy
        search.
      top_k: draw only from the k most probable tokens; 0 means all.
      seed: scalar int.
      row_ids: int32 [B]; the draws of a row depend on the seed, its id and the position, not on its
        batch.

    Returns:
      (logits float32 [B, V], position) -> tokens int32 [B].
    """

    def draw(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        uniform = row_uniform(seed, position, row_ids, sizes(logits)[-1])
        gumbel = -tf.math.log(-tf.math.log(uniform))
        return tf.argmax(logits / temperature + gumbel, -1, output_type=tf.int32)

    def draw_among(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        # Uses both results of top_k: if only one is used, XLA's CPU compiler sorts whole rows.
        best, tokens = tf.math.top_k(logits, smaller(top_k, logits.shape[-1]))
        return tf.gather(tokens, draw(best, position), batch_dims=1)

    def choose(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        if isinstance(top_k, int):
            few = 0 < top_k < logits.shape[-1]
            return (draw_among if few else draw)(logits, position)
        few = (top_k > 0) & (top_k < logits.shape[-1])
        return tf.cond(few, lambda: draw_among(logits, position), lambda: draw(logits, position))

    if isinstance(temperature, (int, float)):
        return choose

    def choose_or_search(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        best = most_probable(logits)
        return tf.cond(temperature > 0, lambda: choose(logits, position), lambda: best)

    return choose_or_search
