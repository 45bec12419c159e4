"""Dense, embedding, normalisation and positions against their definitions."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers.common import (
    Dense,
    FeedForward,
    LayerNorm,
    TokenEmbedding,
    sinusoidal_positions,
)
from t2t_vqem.ops.random import Rng


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_positions_are_sines_then_cosines():
    positions = sinusoidal_positions(9, 8)
    for position in (0, 1, 8):
        for i in range(4):
            angle = position / 10000.0 ** (i / 3)
            np.testing.assert_allclose(positions[position, i], np.sin(angle), atol=1e-6)
            np.testing.assert_allclose(positions[position, 4 + i], np.cos(angle), atol=1e-6)


def test_odd_width_leaves_one_column_empty():
    assert not sinusoidal_positions(5, 7)[:, 6].any()


def test_layers_of_layers_are_built_by_one_call(monkeypatch):
    """Not by Keras running them symbolically before, which takes several times as long."""
    calls = []
    call = Dense.call
    monkeypatch.setattr(Dense, "call", lambda self, x: calls.append(self.name) or call(self, x))
    layer = FeedForward(4, 6, name="feed_forward")
    layer(normal(2, 4))
    assert calls == ["expand", "contract"]
    paths = [variable.path for variable in layer.variables]
    names = ("expand/kernel", "expand/bias", "contract/kernel", "contract/bias")
    assert paths == [f"feed_forward/{name}" for name in names]


def test_dense_is_affine_over_the_last_axis():
    layer, x = Dense(5), normal(2, 3, 7)
    result = layer(x)
    layer.bias.assign(normal(5))
    expected = np.einsum("abi,io->abo", x.astype(np.float64), layer.kernel.numpy()) + normal(5)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)
    assert result.shape == (2, 3, 5)


def test_fused_maps_are_initialised_as_if_apart():
    layer = Dense(600, fused=3)
    layer(normal(1, 100))
    limit = np.sqrt(6 / (100 + 200))
    assert 0.98 * limit < np.abs(layer.kernel.numpy()).max() <= limit


def test_layer_norm_equals_the_definition():
    layer, x = LayerNorm(), 5 + 3 * normal(4, 3, 7)
    layer(x)
    gain, shift = normal(7), normal(2, 7)[1]
    layer.gamma.assign(gain)
    layer.beta.assign(shift)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(
        wide.var(-1, keepdims=True) + layer.epsilon
    ) * gain + shift
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_embedding_and_logits_share_their_table():
    layer = TokenEmbedding(11, 6)
    ids = np.array([[3, 0], [10, 3]])
    vectors = layer(ids)
    table = layer.table.numpy().astype(np.float64)
    np.testing.assert_allclose(vectors, table[ids] * np.sqrt(6), rtol=1e-6)
    x = normal(2, 3, 6)
    np.testing.assert_allclose(layer.logits(x), x @ table.T, rtol=1e-5, atol=1e-6)
    assert len(layer.trainable_variables) == 1


def test_feed_forward_equals_the_definition():
    layer, x = FeedForward(6, 9), normal(2, 3, 6)
    layer(x)
    for variable in layer.variables:
        variable.assign(normal(*variable.shape))
    w1, b1, w2, b2 = (v.numpy().astype(np.float64) for v in layer.variables)
    np.testing.assert_allclose(layer(x), np.maximum(x @ w1 + b1, 0) @ w2 + b2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer", [Dense(5), LayerNorm(), FeedForward(6, 9, relu_dropout=0.2)], ids=lambda x: x.name
)
def test_gradients_reach_every_variable(layer):
    x = normal(2, 3, 6)
    args = {"rng": Rng(0, 0)} if isinstance(layer, FeedForward) else {}
    layer(x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(x, **args)) * normal(1))
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("make", [lambda p: Dense(5, dtype=p), lambda p: LayerNorm(dtype=p)])
def test_mixed_precision_computes_in_bfloat16_and_keeps_float32(make):
    layer, precise = make("mixed_bfloat16"), make("float32")
    x = tf.cast(normal(2, 6), tf.bfloat16)
    result = layer(x)
    assert result.dtype == tf.bfloat16
    assert all(v.dtype == "float32" for v in layer.variables)
    precise(tf.cast(x, tf.float32))
    for variable, value in zip(precise.variables, layer.variables, strict=True):
        variable.assign(value)
    expected = precise(tf.cast(x, tf.float32))
    np.testing.assert_allclose(tf.cast(result, tf.float32), expected, rtol=2e-2, atol=2e-2)
