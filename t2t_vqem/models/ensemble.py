"""Several models of one vocabulary that translate together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from t2t_vqem.capabilities import TokenModel
from t2t_vqem.decoding.greedy import StepFn
from t2t_vqem.models.transformer import Transformer
from t2t_vqem.ops.shapes import Size


class Ensemble(TokenModel):
    """Translates with the mean of the probabilities that its models give to the next token.

    The models may differ in everything except the vocabulary.
    """

    infer = Transformer.infer  # searches with `step_fn` alone

    def __init__(self, models: Sequence[TokenModel]):
        """Takes built models."""
        self.models = list(models)

    def step_fn(self, inputs: tf.Tensor, max_length: Size, **options: Any) -> tuple[StepFn, Any]:
        """Makes the function that computes one decoding step; see `Transformer.step_fn`."""
        parts = [model.step_fn(inputs, max_length, **options) for model in self.models]
        steps, start = zip(*parts, strict=True)

        def step(tokens: tf.Tensor, position: tf.Tensor, caches: Any) -> tuple[tf.Tensor, Any]:
            found = [one(tokens, position, cache) for one, cache in zip(steps, caches, strict=True)]
            logits, caches = zip(*found, strict=True)
            # The sum of the probabilities, whose logarithm the search normalises as it does logits.
            log_probs = tf.stack([tf.nn.log_softmax(x) for x in logits])
            return tf.reduce_logsumexp(log_probs, 0), list(caches)

        return step, list(start)

    def attention_weights(self, inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns the mean of the models' attention weights."""
        found = [model.attention_weights(inputs, targets) for model in self.models]
        return tf.reduce_mean(tf.stack(found), 0)
