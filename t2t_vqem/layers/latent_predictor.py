"""The latent predictor: an autoregressive Transformer decoder over codes.

Shapes: N rows, L latents, S source length, D width, K codes, m draws. Its vocabulary is PAD, which
is also the token before the first one, EOS, which ends a sequence, and the K codes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import EOS_ID, FIRST_CODE, PAD_ID
from t2t_vqem.layers.attention import KeyValue
from t2t_vqem.layers.common import Layer, TokenEmbedding, position_table
from t2t_vqem.layers.transformer import TransformerStack
from t2t_vqem.layers.vector_quantizer import PriorStates
from t2t_vqem.ops.losses import drawn_cross_entropy
from t2t_vqem.ops.masks import MASKED, causal_bias, mask_padding_token
from t2t_vqem.ops.random import Rng, dropout
from t2t_vqem.ops.shapes import Size, sizes


class Source(NamedTuple):
    """An encoded source."""

    memory: tf.Tensor  # [N, S, D]
    bias: tf.Tensor  # float32 [N, 1, 1, S]

    def repeat(self, times: int) -> "Source":
        """Repeats each row, so that rows b*times ... belong to sentence b."""
        return self if times == 1 else Source(*(tf.repeat(x, times, axis=0) for x in self))

    def project(self, stack: TransformerStack, times: int = 1) -> "ProjectedSource":
        """Computes keys and values for a stack once per sentence, then repeats them likewise."""
        bias = self.bias if times == 1 else tf.repeat(self.bias, times, axis=0)
        return ProjectedSource(stack.project_memory(self.memory, times), bias)


class ProjectedSource(NamedTuple):
    """An encoded source as the keys and values of a stack, which takes it instead of the memory."""

    memory: list[KeyValue]  # [N, H, S, D/H] for each block
    bias: tf.Tensor  # float32 [N, 1, 1, S]


class LatentLoss(NamedTuple):
    """Sums over latents and the ends of their sequences (float32 scalars)."""

    nll: tf.Tensor  # cross-entropy, nats
    correct: tf.Tensor  # number of positions whose most probable code is the nearest code
    weight: tf.Tensor  # number of positions


class LatentPredictor(Layer):
    """Predicts latents from the source autoregressively, followed by EOS."""

    def __init__(
        self,
        num_codes: int,
        num_layers: int,
        width: int,
        *,
        position_limit: int,
        dropout_rate: float,
        **kwargs: Any,
    ):
        """Makes the layers.

        Args:
          num_codes: K.
          num_layers: number of Transformer layers.
          width: D.
          position_limit: the largest number of latents, for graphs in which it is unknown.
          dropout_rate: dropout probability of the embeddings, inside the feed-forward layers and of
            each layer's output.
          **kwargs: filter_size, num_heads and attention_dropout of `TransformerStack`, and Keras
            layer arguments.
        """
        layer_args = {key: kwargs.pop(key) for key in ("name", "dtype") if key in kwargs}
        super().__init__(**layer_args)
        self.position_limit = position_limit
        self.dropout_rate = dropout_rate
        policy = self.dtype_policy
        self.embedding = TokenEmbedding(
            num_codes + FIRST_CODE, width, name="embedding", dtype=policy
        )
        self.stack = TransformerStack(
            num_layers,
            width,
            cross_attention=True,
            residual_dropout=dropout_rate,
            relu_dropout=dropout_rate,
            name="stack",
            dtype=policy,
            **kwargs,
        )

    def call(self, before: tf.Tensor, source: Source, rng: Rng | None = None) -> tf.Tensor:
        """Computes the logits of the next tokens: int32 [N, L] -> float32 [N, L, 2 + K]."""
        x = self._states(before, source, rng)
        return tf.cast(self.embedding.logits(x), tf.float32)

    def _states(self, before: tf.Tensor, source: Source, rng: Rng | None) -> tf.Tensor:
        """Computes the states [N, L, D], whose products with the embeddings are the logits."""
        x = self.embedding(before)
        length = sizes(before)[1]
        x += tf.cast(self._positions(length), x.dtype)
        x = dropout(x, self.dropout_rate, rng)
        return self.stack(x, causal_bias(length), *source, rng=rng)

    def prior_states(self, ids: tf.Tensor, source: Source) -> PriorStates:
        """Returns the states that predict each code of int32 [N, L, 1] from those before it.

        Without dropout.
        """
        before = tf.pad(ids[:, :-1, 0] + FIRST_CODE, [[0, 0], [1, 0]], constant_values=PAD_ID)
        states = self._states(before, source, None)
        table = tf.cast(self.embedding.table, states.dtype)
        return PriorStates(states[:, :, None], table[None], None, FIRST_CODE)

    def _positions(self, length: Size) -> tf.Tensor:
        return tf.convert_to_tensor(
            position_table(length, self.embedding.width, self.position_limit)
        )

    def loss(
        self,
        ids: tf.Tensor,
        drawn: tf.Tensor,
        mask: tf.Tensor,
        source: Source,
        rng: Rng | None = None,
    ) -> LatentLoss:
        """Cross-entropy of latents and of EOS.

        The input is one of the draws, because in inference a latent is one code, never a mean.

        Args:
          ids: int32 [N, L], nearest codes.
          drawn: int32 [N, L, m], drawn codes, or the nearest codes.
          mask: bool [N, L], True at latents.
          source: the encoded source.
          rng: random numbers for dropout; None in evaluation.
        """
        counts = tf.reduce_sum(tf.cast(mask, tf.int32), 1)[:, None]
        positions = tf.range(ids.shape[1] + 1)[None]
        draws = tf.stack([_as_tokens(codes, counts) for codes in tf.unstack(drawn, axis=-1)], -1)
        before = tf.pad(draws[:, :-1, 0], [[0, 0], [1, 0]], constant_values=PAD_ID)
        logits = self(before, source, rng=rng)
        real = (positions <= counts) & (counts > 0)
        right = (tf.argmax(logits, -1, output_type=tf.int32) == _as_tokens(ids, counts)) & real
        return LatentLoss(
            nll=drawn_cross_entropy(logits, draws, real),
            correct=tf.reduce_sum(tf.cast(right, tf.float32)),
            weight=tf.reduce_sum(tf.cast(real, tf.float32)),
        )

    def log_probs(self, ids: tf.Tensor, counts: tf.Tensor, source: Source) -> tf.Tensor:
        """Log-probabilities of latents and of EOS, equal to those of `step_fn`, in nats.

        Args:
          ids: int32 [N, L], codes.
          counts: int32 [N], number of latents in each row.
          source: the encoded source.

        Returns:
          float32 [N, L + 1], 0 after EOS.
        """
        tokens = _as_tokens(ids, counts[:, None])
        before = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
        logits = _possible(self(before, source), tf.range(sizes(before)[1])[:, None])
        found = tf.gather(tf.nn.log_softmax(logits), tokens, axis=2, batch_dims=2)
        return tf.where(tokens == PAD_ID, 0.0, found)

    def step_fn(self, source: Source, length: Size, times: int = 1) -> tuple[Callable, list]:
        """Makes the function that computes one decoding step.

        Args:
          source: the encoded source, B rows.
          length: the largest number of steps.
          times: number of rows for each sentence, N = B * times; rows b*times ... belong to
            sentence b.

        Returns:
          `step(tokens [N], position, cache) -> (logits float32 [N, 2 + K], cache)`, and the empty
          cache.
        """
        memories, bias = source.project(self.stack, times)
        table = self._positions(length)

        def step(tokens, position, cache):
            x = tf.expand_dims(self.embedding(tokens), 1)
            x += tf.cast(tf.gather(table, position), x.dtype)
            x, cache = self.stack.step(x, cache, position, memories, bias)
            return _possible(self.embedding.logits(tf.squeeze(x, 1)), position), cache

        return step, self.stack.empty_cache(sizes(source.memory)[0] * times, length)


def _as_tokens(codes: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Converts codes int32 [N, L] to tokens [N, L + 1]: EOS after `counts` [N, 1], then PAD."""
    codes = tf.pad(codes + FIRST_CODE, [[0, 0], [0, 1]])
    positions = tf.range(sizes(codes)[1])[None]
    end = tf.where(positions == counts, EOS_ID, PAD_ID)
    return tf.where(positions < counts, codes, end)


def _possible(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Masks PAD, and at position 0 also EOS, because there is at least one latent."""
    logits = mask_padding_token(logits)
    is_eos = np.arange(logits.shape[-1]) == EOS_ID
    return logits + tf.where(position == 0, MASKED, 0.0) * is_eos.astype(np.float32)
