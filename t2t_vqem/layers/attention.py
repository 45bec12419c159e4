"""Multi-head attention, for whole sequences and for single decoding steps.

Shapes: B batch, T query length, S memory length, H heads, D width. An attention bias is added to
the logits: 0 at allowed positions and about -1e9 at masked ones. It broadcasts to [B, H, T, S].

As in Tensor2Tensor, the projections have no biases. A bias of the keys would have no effect: it
shifts all logits of a query equally, so its gradient is rounding noise, which Adam would amplify.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from t2t_vqem.layers.common import Dense, Layer, LayerNorm
from t2t_vqem.ops.random import Rng, dropout
from t2t_vqem.ops.shapes import is_for_interpreter, reshaped, sizes


class KeyValue(NamedTuple):
    """Keys and values of a memory, each [B, H, S, D/H]: also the decoding cache of one layer."""

    key: tf.Tensor
    value: tf.Tensor

    def repeat(self, times: int) -> "KeyValue":
        """Repeats each row, so that rows b*times ... belong to sentence b."""
        return self if times == 1 else KeyValue(*(tf.repeat(x, times, axis=0) for x in self))


def split_heads(x: tf.Tensor, num_heads: int) -> tf.Tensor:
    """[B, T, D] -> [B, H, T, D/H]."""
    batch, length, width = sizes(x)
    head_dim = width // num_heads
    if isinstance(length, int) and length == 1:  # nothing changes places
        return reshaped(x, [batch, num_heads, 1, head_dim])
    return tf.transpose(reshaped(x, [batch, length, num_heads, head_dim]), [0, 2, 1, 3])


def split_fused(x: tf.Tensor, num: int, num_heads: int) -> list[tf.Tensor]:
    """[B, T, num * D] -> num tensors [B, H, T, D/H]."""
    if not is_for_interpreter():
        return [split_heads(part, num_heads) for part in tf.split(x, num, axis=-1)]
    return tf.split(split_heads(x, num * num_heads), num, axis=1)  # fewer operations


def combine_heads(x: tf.Tensor) -> tf.Tensor:
    """[B, H, T, D/H] -> [B, T, D]: the inverse of `split_heads`."""
    batch, heads, length, head_dim = sizes(x)
    if not (isinstance(length, int) and length == 1):
        x = tf.transpose(x, [0, 2, 1, 3])
    return reshaped(x, [batch, length, heads * head_dim])


def attend(
    query: tf.Tensor,
    memory: KeyValue,
    bias: tf.Tensor,
    rate: float = 0.0,
    rng: Rng | None = None,
    *,
    is_scaled: bool = False,
) -> tf.Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1), softmax in float32.

    Args:
      query: [B, H, T, D/H].
      memory: keys and values.
      bias: float32, broadcastable to [B, H, T, S].
      rate: dropout probability of the attention weights.
      rng: None for inference.
      is_scaled: whether the query already has the factor (D/H)^-1/2.

    Returns:
      [B, H, T, D/H].
    """
    weights = attention_weights(query, memory, bias, is_scaled=is_scaled)
    weights = dropout(tf.cast(weights, query.dtype), rate, rng)
    return tf.matmul(weights, memory.value)


def attention_weights(
    query: tf.Tensor, memory: KeyValue, bias: tf.Tensor, *, is_scaled: bool = False
) -> tf.Tensor:
    """Returns the weights of `attend`: float32 [B, H, T, S]; a row sums to 1."""
    if not is_scaled:
        query = query * tf.cast(query.shape[-1] ** -0.5, query.dtype)
    logits = tf.matmul(query, memory.key, transpose_b=True)
    return tf.nn.softmax(tf.cast(logits, tf.float32) + bias)


class SelfAttention(Layer):
    """Self-attention with one fused product for queries, keys and values."""

    def __init__(self, width: int, num_heads: int, *, attention_dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self._is_folded = False
        args = {"use_bias": False, "dtype": self.dtype_policy}
        self.query_key_value = Dense(3 * width, fused=3, name="qkv", **args)
        self.output_transform = Dense(width, name="output", **args)

    def _project(self, x: tf.Tensor) -> tuple[tf.Tensor, KeyValue]:
        query, key, value = split_fused(self.query_key_value(x), 3, self.num_heads)
        return query, KeyValue(key, value)

    def call(self, x: tf.Tensor, bias: tf.Tensor, rng: Rng | None = None) -> tf.Tensor:
        """Attends from every position of x [B, T, D] to every position that the bias allows."""
        query, memory = self._project(x)
        attended = attend(
            query, memory, bias, self.attention_dropout, rng, is_scaled=self._is_folded
        )
        return self.output_transform(combine_heads(attended))

    def fold(self, norm: LayerNorm) -> None:
        """Makes the norm before it and the factor of queries part of the projection."""
        scale = np.ones(self.query_key_value.units)
        width = len(scale) // 3
        scale[:width] = (width // self.num_heads) ** -0.5
        norm.fold_into(self.query_key_value, scale)
        self._is_folded = True

    def step(
        self, x: tf.Tensor, cache: KeyValue, here: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, KeyValue]:
        """Computes one position and writes its key and value into the cache.

        Args:
          x: [B, 1, D], the input at this position.
          cache: [B, H, S, D/H], filled before the position.
          here: [1, 1, S, 1], 1 at the position and 0 elsewhere, of the cache's type.
          bias: [1, 1, 1, S], masks the positions after it.

        Returns:
          The output [B, 1, D] and the cache with one more entry.
        """
        query, new = self._project(x)
        cache = KeyValue(*(write_position(c, n, here) for c, n in zip(cache, new, strict=True)))
        attended = attend(query, cache, bias, is_scaled=self._is_folded)
        return self.output_transform(combine_heads(attended)), cache


class CrossAttention(Layer):
    """Attention to another sequence, with one fused product for its keys and values."""

    def __init__(self, width: int, num_heads: int, *, attention_dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self._is_folded = False
        args = {"use_bias": False, "dtype": self.dtype_policy}
        self.query_transform = Dense(width, name="query", **args)
        self.key_value = Dense(2 * width, fused=2, name="kv", **args)
        self.output_transform = Dense(width, name="output", **args)

    def fold(self, norm: LayerNorm) -> None:
        """Makes the norm of queries and their factor part of the projection."""
        width = self.query_transform.units
        norm.fold_into(self.query_transform, np.full(width, (width // self.num_heads) ** -0.5))
        self._is_folded = True

    def project_memory(self, memory: tf.Tensor) -> KeyValue:
        """Returns keys and values of memory [B, S, D], computed once per sentence in decoding."""
        return KeyValue(*split_fused(self.key_value(memory), 2, self.num_heads))

    def call(
        self, x: tf.Tensor, memory: tf.Tensor | KeyValue, bias: tf.Tensor, rng: Rng | None = None
    ) -> tf.Tensor:
        """Attends from x [B, T, D] to memory [B, S, D] or the result of `project_memory` for it."""
        if not isinstance(memory, KeyValue):
            memory = self.project_memory(memory)
        query = split_heads(self.query_transform(x), self.num_heads)
        attended = attend(
            query, memory, bias, self.attention_dropout, rng, is_scaled=self._is_folded
        )
        return self.output_transform(combine_heads(attended))

    def weights_on(self, x: tf.Tensor, memory: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """Returns how much x [B, T, D] attends to memory [B, S, D]: float32 [B, H, T, S]."""
        query = split_heads(self.query_transform(x), self.num_heads)
        return attention_weights(query, self.project_memory(memory), bias)


def write_position(cache: tf.Tensor, new: tf.Tensor, here: tf.Tensor) -> tf.Tensor:
    """Writes new [B, H, 1, D/H] into the cache [B, H, S, D/H] where `here` [1, 1, S, 1] is 1.

    The cache must still be 0 there.
    """
    # Uses arithmetic instead of tf.where: XLA on a CPU would compute the selection twice, for the
    # product and for the next step of the loop, and copy the whole cache before. That takes a tenth
    # of the time of a greedy step.
    return cache + new * here
