"""Downsampling and upsampling of sequences, against loops in float64."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers.lengths import Lengthen, Shorten
from t2t_vqem.ops.random import Rng

B, T, D = 2, 8, 6


def vectors(length: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=[B, length, D]).astype(np.float32))


def shaken(layer):
    rng = np.random.default_rng(1)
    for variable in layer.variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.3, variable.shape))
    return layer


def residual(layer, x: np.ndarray) -> np.ndarray:
    normal = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    norm, forward = layer.norm, layer.feed_forward
    normal = normal * norm.gamma.numpy() + norm.beta.numpy()
    inner = np.maximum(normal @ forward.expand.kernel.numpy() + forward.expand.bias.numpy(), 0)
    return x + inner @ forward.contract.kernel.numpy() + forward.contract.bias.numpy()


def test_shorten_is_a_strided_convolution_of_kernel_2():
    layer = Shorten(2, D, 10, dropout_rate=0.5)
    x, mask = vectors(T), tf.constant([[True] * 8, [True] * 5 + [False] * 3])
    layer(x, mask)
    found = shaken(layer)(x, mask).numpy()
    assert found.shape == (B, 2, D)
    for row in range(B):
        y = [
            v if real else 0 * v for v, real in zip(x[row].numpy(), mask[row].numpy(), strict=True)
        ]
        for convolution, after in zip(layer.convolutions, layer.residuals, strict=True):
            kernel = convolution.kernel.numpy().astype(np.float64)
            left, right = kernel[:D], kernel[D:]
            y = [
                residual(after, y[i] @ left + y[i + 1] @ right + convolution.bias.numpy())
                for i in range(0, len(y), 2)
            ]
        np.testing.assert_allclose(found[row], y, rtol=1e-4, atol=1e-5)


def test_lengthen_is_a_transposed_convolution_of_kernel_2():
    layer = Lengthen(2, D, 10, dropout_rate=0.5)
    x = vectors(2)
    layer(x)
    found = shaken(layer)(x).numpy()
    assert found.shape == (B, T, D)
    for row in range(B):
        y = list(x[row].numpy())
        for convolution, after in zip(layer.convolutions, layer.residuals, strict=True):
            kernel = convolution.kernel.numpy().astype(np.float64)
            bias = convolution.bias.numpy()
            halves = [(kernel[:, :D], bias[:D]), (kernel[:, D:], bias[D:])]
            y = [residual(after, v @ part + b) for v in y for part, b in halves]
        np.testing.assert_allclose(found[row], y, rtol=1e-4, atol=1e-5)


def test_without_downsampling_nothing_changes():
    x, mask = vectors(3), tf.ones([B, 3], tf.bool)
    np.testing.assert_array_equal(Shorten(0, D, 10, dropout_rate=0.0)(x, mask), x)
    np.testing.assert_array_equal(Lengthen(0, D, 10, dropout_rate=0.0)(x), x)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_dropout_acts_only_in_training(dtype):
    layer, without = (Lengthen(1, D, 10, dropout_rate=p, dtype=dtype) for p in (0.5, 0.0))
    x = tf.cast(vectors(2), layer.compute_dtype)
    for one in (layer, without):
        one(x)
    for variable, other in zip(layer.variables, without.variables, strict=True):
        other.assign(variable)
    np.testing.assert_array_equal(layer(x), without(x, rng=Rng(0, 1)))
    assert np.abs(tf.cast(layer(x) - layer(x, rng=Rng(0, 1)), tf.float32)).max() > 0
