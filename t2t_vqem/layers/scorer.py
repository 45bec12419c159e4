"""A scorer of translations: a causal decoder whose score needs no softmax over the vocabulary.

Shapes: N rows, T target length, S source length, D width, V vocabulary.
"""

import math
from typing import Any

import tensorflow as tf

from t2t_vqem.layers.attention import KeyValue
from t2t_vqem.layers.common import FeedForward, Layer, TokenEmbedding
from t2t_vqem.layers.transformer import TransformerStack
from t2t_vqem.ops.losses import TokenLoss, token_cross_entropy
from t2t_vqem.ops.masks import causal_bias, padding_mask
from t2t_vqem.ops.random import Rng
from t2t_vqem.ops.shapes import sizes


class Scorer(Layer):
    """Scores whole translations in one parallel pass.

    It is self-normalised (Devlin et al. 2014, section 2.2): the loss has a term alpha (log Z)^2, so
    that a logit alone is close to a log-probability. The logit of token v in state x is x . e_v +
    f(x) - log V, where e_v is the token's embedding and f has one hidden layer. The terms without v
    do not change the softmax. f learns to predict log Z, which so becomes small without a change of
    the embeddings, which other parts of the model share; log V makes it small at first, as in that
    paper.
    """

    def __init__(self, num_layers: int, width: int, *, vocab_size: int, **kwargs: Any):
        """Makes the layers.

        Args:
          num_layers: number of Transformer layers.
          width: D.
          vocab_size: V.
          **kwargs: filter_size, num_heads and dropout probabilities of `TransformerStack`, and
            Keras layer arguments.
        """
        layer_args = {key: kwargs.pop(key) for key in ("name", "dtype") if key in kwargs}
        super().__init__(**layer_args)
        self.log_size = math.log(vocab_size)
        policy = self.dtype_policy
        self.stack = TransformerStack(
            num_layers, width, cross_attention=True, name="stack", dtype=policy, **kwargs
        )
        self.offset = FeedForward(1, width, name="offset", dtype=policy)

    def call(
        self,
        before: tf.Tensor,
        memory: tf.Tensor | list[KeyValue],
        memory_bias: tf.Tensor,
        rng: Rng | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the states before each token, and what is added to their logits.

        Args:
          before: [N, T, D], the embedding of the token before each, with positions.
          memory: the encoded source [N, S, D], or the keys and values of `stack` for it.
          memory_bias: float32 [N, 1, 1, S].
          rng: randomness of dropout; None for inference.

        Returns:
          [N, T, D] and float32 [N, T].
        """
        states = self.stack(before, causal_bias(sizes(before)[1]), memory, memory_bias, rng=rng)
        return states, tf.cast(self.offset(states)[..., 0], tf.float32) - self.log_size

    def loss(
        self,
        before: tf.Tensor,
        targets: tf.Tensor,
        memory: tf.Tensor,
        memory_bias: tf.Tensor,
        embedding: TokenEmbedding,
        *,
        label_smoothing: float,
        rng: Rng | None = None,
    ) -> TokenLoss:
        """Cross-entropy of targets int32 [N, T] with the full softmax, and squares of log Z."""
        states, offset = self(before, memory, memory_bias, rng=rng)
        logits = tf.cast(embedding.logits(states), tf.float32) + offset[..., None]
        return token_cross_entropy(logits, targets, padding_mask(targets), label_smoothing)

    def score(
        self,
        before: tf.Tensor,
        tokens: tf.Tensor,
        memory: tf.Tensor | list[KeyValue],
        memory_bias: tf.Tensor,
        embedding: TokenEmbedding,
    ) -> tf.Tensor:
        """Sums the logits of the real tokens of each row: int32 [N, T] -> float32 [N], nats."""
        states, offset = self(before, memory, memory_bias)
        logits = embedding.logits_of(states, tokens) + offset
        return tf.reduce_sum(tf.where(padding_mask(tokens), logits, 0.0), 1)
