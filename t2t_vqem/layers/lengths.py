"""Downsampling and upsampling of sequences by powers of 2.

Shapes: B batch, T length, D width.
"""

import tensorflow as tf

from t2t_vqem.layers.common import Dense, FeedForward, Layer, LayerNorm
from t2t_vqem.ops.random import Rng, dropout
from t2t_vqem.ops.shapes import reshaped, sizes


class Shorten(Layer):
    """Downsamples by 2^n: strided convolutions of kernel size 2, each with a feed-forward layer.

    The kernel is not wider than the stride, because attention has already mixed the positions.
    """

    def __init__(
        self, num_halvings: int, width: int, filter_size: int, *, dropout_rate: float, **kwargs
    ):
        """Makes the layers.

        Args:
          num_halvings: n, the number of downsampling layers.
          width: D.
          filter_size: width inside the feed-forward layers.
          dropout_rate: dropout probability inside and after the feed-forward layers.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.convolutions = [
            Dense(width, name=f"convolution_{i}", dtype=policy) for i in range(num_halvings)
        ]
        self.residuals = [
            _Residual(width, filter_size, dropout_rate, name=f"residual_{i}", dtype=policy)
            for i in range(num_halvings)
        ]

    def call(self, x: tf.Tensor, mask: tf.Tensor, rng: Rng | None = None) -> tf.Tensor:
        """Downsamples x [B, T, D], T a multiple of 2^n, to [B, T / 2^n, D].

        Positions where mask [B, T] is False are treated as zeros.
        """
        x = tf.where(tf.expand_dims(mask, -1), x, tf.zeros([], x.dtype))
        for convolution, residual in zip(self.convolutions, self.residuals, strict=True):
            batch, length, width = sizes(x)
            x = residual(convolution(reshaped(x, [batch, length // 2, 2 * width])), rng=rng)
        return x


class Lengthen(Layer):
    """Upsamples by 2^n: transposed convolutions of kernel size 2, with feed-forward layers."""

    def __init__(
        self, num_doublings: int, width: int, filter_size: int, *, dropout_rate: float, **kwargs
    ):
        """Makes the layers. The arguments are those of `Shorten`."""
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.convolutions = [
            Dense(2 * width, fused=2, name=f"convolution_{i}", dtype=policy)
            for i in range(num_doublings)
        ]
        self.residuals = [
            _Residual(width, filter_size, dropout_rate, name=f"residual_{i}", dtype=policy)
            for i in range(num_doublings)
        ]

    def call(self, x: tf.Tensor, rng: Rng | None = None) -> tf.Tensor:
        """Upsamples x [B, T, D] to [B, T * 2^n, D]."""
        for convolution, residual in zip(self.convolutions, self.residuals, strict=True):
            batch, length, width = sizes(x)
            x = residual(reshaped(convolution(x), [batch, 2 * length, width]), rng=rng)
        return x


class _Residual(Layer):
    """x + feed-forward(norm(x))."""

    def __init__(self, width: int, filter_size: int, dropout_rate: float, **kwargs):
        super().__init__(**kwargs)
        self.dropout_rate = dropout_rate
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)
        self.feed_forward = FeedForward(
            width,
            filter_size,
            relu_dropout=dropout_rate,
            name="feed_forward",
            dtype=self.dtype_policy,
        )

    def call(self, x: tf.Tensor, rng: Rng | None = None) -> tf.Tensor:
        return x + dropout(self.feed_forward(self.norm(x), rng=rng), self.dropout_rate, rng)
