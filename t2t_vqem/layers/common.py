"""Embeddings, positions, normalisation and dense layers.

Shapes: B batch, T length, D width, V vocabulary. Every layer takes the Keras `dtype` argument. With
"mixed_bfloat16", variables stay float32 and products are computed in bfloat16.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from t2t_vqem.ops.random import Rng, dropout
from t2t_vqem.ops.shapes import Size, is_for_interpreter, reshaped, sizes


def sinusoidal_positions(length: int, width: int) -> np.ndarray:
    """Sinusoidal positions as in Tensor2Tensor: sines in the first half, cosines in the second.

    Vaswani et al. 2017, section 3.5, with wavelengths from 2 pi to 10000 * 2 pi.

    Returns:
      float32 [length, width].
    """
    half = width // 2
    rates = np.exp(-math.log(10000.0) / max(half - 1, 1) * np.arange(half))
    angles = np.arange(length)[:, None] * rates[None]
    positions = np.zeros((length, width), np.float32)
    positions[:, :half] = np.sin(angles)
    positions[:, half : 2 * half] = np.cos(angles)
    return positions


def position_table(length: Size, width: int, limit: int) -> np.ndarray | tf.Tensor:
    """Returns `sinusoidal_positions`, float32 [length, width].

    If the length is unknown when a graph is built, it must be at most `limit`: the result is then a
    slice of a table of `limit` positions.
    """
    if isinstance(length, int):
        return sinusoidal_positions(length, width)
    return tf.constant(sinusoidal_positions(limit, width))[:length]


class Layer(keras.layers.Layer):
    """A Keras layer without automatic casting.

    Keras would cast every float argument and variable to the compute type, also attention biases
    and the gains of normalisation, which must stay float32.
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def build(self, input_shape):
        """Does nothing, for layers whose variables are all in sub-layers, built when called.

        Without this method, Keras would run `call` symbolically at every level to build them.
        """

    def add_weight(self, **kwargs) -> keras.Variable:
        """Adds a variable that is read in the precision in which it is stored."""
        return super().add_weight(autocast=False, **kwargs)


class Dense(Layer):
    """An affine map of the last axis, with Glorot-uniform kernel [in, out] and zero bias [out]."""

    def __init__(
        self, units: int, *, use_bias: bool = True, fused: int = 1, scale: float = 1.0, **kwargs
    ):
        """Makes the layer.

        Args:
          units: output size of all `fused` maps together.
          use_bias: whether there is a bias.
          fused: number of maps of equal size that share the kernel. Each is initialised like a
            separate layer.
          scale: factor of the initial kernel; 1 for Glorot's initialisation.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        self.units = units
        self.use_bias = use_bias
        self.fused = fused
        self.scale = scale
        self._folded: tuple[tf.Tensor, tf.Tensor] | None = None

    def build(self, input_shape):
        fan_in = input_shape[-1]
        limit = self.scale * math.sqrt(6.0 / (fan_in + self.units / self.fused))
        uniform = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight(
            shape=(fan_in, self.units), initializer=uniform, name="kernel"
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [..., in] to [..., out]."""
        kernel, bias = self._folded or (self.kernel, self.bias)
        kernel = tf.cast(kernel, self.compute_dtype)
        # One matrix product over all rows: XLA and oneDNN run [B*T, D] faster than a batch of them.
        # LiteRT takes rows of any shape.
        as_rows = not is_for_interpreter()
        rows = (tf.reshape(x, [-1, x.shape[-1]]) if as_rows else x) @ kernel
        if bias is not None:
            rows += tf.cast(bias, rows.dtype)
        return reshaped(rows, [*sizes(x)[:-1], self.units]) if as_rows else rows

    def fold(self, gain: np.ndarray, offset: np.ndarray, scale: np.ndarray) -> None:
        """From now on maps x as it has mapped gain * x + offset, and scales the result.

        Args:
          gain: [in].
          offset: [in].
          scale: [out].
        """
        kernel = np.asarray(self.kernel).astype(np.float64)
        bias = offset @ kernel + (0 if self.bias is None else np.asarray(self.bias))
        kernel, bias = gain[:, None] * kernel * scale, bias * scale
        self._folded = tf.constant(kernel, tf.float32), tf.constant(bias, tf.float32)


class LayerNorm(Layer):
    """Layer normalisation of the last axis with gain and bias, computed in float32."""

    def __init__(self, *, epsilon: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self._is_folded = False

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=input_shape[-1:], initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=input_shape[-1:], initializer="zeros", name="beta")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalises [..., D]."""
        x = tf.cast(x, tf.float32)
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        normal = centred * tf.math.rsqrt(variance + self.epsilon)
        if not self._is_folded:
            normal = normal * self.gamma + self.beta
        return tf.cast(normal, self.compute_dtype)

    def fold_into(self, dense: Dense, scale: np.ndarray | None = None) -> None:
        """From now on leaves gain and bias to the layer after it; see `Dense.fold`."""
        scale = np.ones(dense.units) if scale is None else scale
        dense.fold(np.asarray(self.gamma), np.asarray(self.beta), scale)
        self._is_folded = True


class TokenEmbedding(Layer):
    """Token embeddings, shared between inputs and the output projection (Press and Wolf 2017)."""

    def __init__(self, vocab_size: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.width = width
        self._int8: tuple[tf.Tensor, tf.Tensor] | None = None

    def build(self, input_shape):
        normal = keras.initializers.RandomNormal(stddev=self.width**-0.5)
        self.table = self.add_weight(
            shape=(self.vocab_size, self.width), initializer=normal, name="table"
        )

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks up embeddings: int [...] -> [..., D], scaled by sqrt(D)."""
        return tf.cast(self._scaled(ids), self.compute_dtype)

    def _scaled(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks up rows of the table, scaled by sqrt(D): int [...] -> [..., D]."""
        if self._int8 is None:
            return tf.gather(tf.convert_to_tensor(self.table), ids) * self.width**0.5
        rows, scales = (tf.gather(x, ids) for x in self._int8)
        return tf.cast(rows, tf.float32) * tf.bitcast(scales, tf.float32)

    def look_up_in_int8(self) -> None:
        """From now on looks up vectors of 8 bits, with a scale each.

        They are what LiteRT makes of the table as a weight of 8 bits, for the projection: so a
        model file can hold the table once.
        """
        table = np.array(self.table)
        scales = np.abs(table).max(1, keepdims=True) / 127
        rows = np.round(table / np.where(scales > 0, scales, 1))
        # As integers, since LiteRT's converter would take the scales for weights to be quantised.
        bits = (scales * self.width**0.5).astype(np.float32).view(np.int32)
        self._int8 = tf.constant(rows, tf.int8), tf.constant(bits, tf.int32)

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Computes logits: [..., D] -> [..., V], in the compute type."""
        table = tf.cast(self.table, self.compute_dtype)
        rows = tf.matmul(tf.reshape(x, [-1, self.width]), table, transpose_b=True)
        return reshaped(rows, [*sizes(x)[:-1], self.vocab_size])

    def logits_of(self, x: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Computes one logit each: x [..., D] and int [...] -> float32 [...]."""
        rows = tf.cast(self._scaled(ids), tf.float32)
        return tf.reduce_sum(tf.cast(x, tf.float32) * rows, -1) * self.width**-0.5


class FeedForward(Layer):
    """Two dense layers with a ReLU and dropout between them (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, width: int, filter_size: int, *, relu_dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.relu_dropout = relu_dropout
        self.expand = Dense(filter_size, name="expand", dtype=self.dtype_policy)
        self.contract = Dense(width, name="contract", dtype=self.dtype_policy)

    def call(self, x: tf.Tensor, rng: Rng | None = None) -> tf.Tensor:
        """Maps [..., D] to [..., D]."""
        return self.contract(dropout(tf.nn.relu(self.expand(x)), self.relu_dropout, rng))
