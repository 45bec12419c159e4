"""Attention compared with float64 loops, and which positions it can see."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers.attention import (
    CrossAttention,
    KeyValue,
    SelfAttention,
    attend,
    combine_heads,
    split_heads,
    write_position,
)
from t2t_vqem.ops.masks import causal_bias, padding_bias, prefix_bias

B, H, T, S, D = 2, 3, 4, 5, 12


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def at(position: int, length: int = T + 2) -> tf.Tensor:
    """1 at a position of a cache, 0 elsewhere."""
    return tf.reshape(tf.one_hot(position, length), [1, 1, length, 1])


def test_split_and_combine_are_inverse_and_keep_heads_contiguous():
    x = normal(B, T, D)
    heads = split_heads(tf.constant(x), H)
    np.testing.assert_array_equal(heads[1, 2, 3], x[1, 3, 8:12])
    np.testing.assert_array_equal(combine_heads(heads), x)


def test_attend_equals_a_loop():
    q, k, v = normal(B, H, T, 4), normal(B, H, S, 4, seed=1), normal(B, H, S, 4, seed=2)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    result = attend(tf.constant(q), KeyValue(k, v), padding_bias(tf.constant(mask)))
    for b in range(B):
        for h in range(H):
            for t in range(T):
                seen = np.flatnonzero(mask[b])
                scores = np.exp([np.dot(q[b, h, t].astype(float), k[b, h, s]) / 2 for s in seen])
                expected = (scores / scores.sum()) @ v[b, h, seen]
                np.testing.assert_allclose(result[b, h, t], expected, rtol=1e-4, atol=1e-5)


def test_fused_projection_is_query_key_value_in_that_order():
    layer, x = SelfAttention(D, H), normal(B, T, D)
    result = layer(x, causal_bias(T))
    w, w_out = (v.numpy().astype(np.float64) for v in layer.variables)
    q, k, v = np.split(x @ w, 3, axis=-1)
    expected = np.zeros([B, T, D])
    for b in range(B):
        for h in range(H):
            part = slice(4 * h, 4 * h + 4)
            for t in range(T):
                scores = np.exp(k[b, : t + 1, part] @ q[b, t, part] / 2)
                expected[b, t, part] = scores @ v[b, : t + 1, part] / scores.sum()
    np.testing.assert_allclose(result, expected @ w_out, rtol=1e-4, atol=1e-5)


def test_causal_self_attention_cannot_see_the_future():
    layer, x = SelfAttention(D, H), tf.constant(normal(B, T, D))
    layer(x, causal_bias(T))
    for t in range(T):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = tf.reduce_sum(layer(x, causal_bias(T))[:, t])
        seen = np.abs(tape.gradient(out, x)).max((0, 2)) > 0
        np.testing.assert_array_equal(seen, np.arange(T) <= t)


def test_decoding_with_a_cache_equals_the_whole_sequence():
    layer, x = SelfAttention(D, H), tf.constant(normal(B, T, D))
    whole = layer(x, causal_bias(T))
    cache = KeyValue(*[tf.zeros([B, H, T + 2, D // H])] * 2)
    for t in range(T):
        bias = prefix_bias(tf.constant(t), T + 2)
        out, cache = layer.step(x[:, t : t + 1], cache, at(t), bias)
        np.testing.assert_allclose(out[:, 0], whole[:, t], rtol=1e-4, atol=1e-5)


def test_cross_attention_cannot_see_padding():
    layer, x, memory = CrossAttention(D, H), normal(B, T, D), tf.constant(normal(B, S, D, seed=3))
    mask = tf.constant([[True] * 3 + [False] * 2, [True] * 5])
    layer(x, memory, padding_bias(mask))
    with tf.GradientTape() as tape:
        tape.watch(memory)
        out = tf.reduce_sum(layer(x, memory, padding_bias(mask)) ** 2)
    seen = np.abs(tape.gradient(out, memory)).max(2) > 0
    np.testing.assert_array_equal(seen, mask)


@pytest.mark.parametrize("position", [0, 2, 4])
def test_write_position_changes_one_position(position):
    cache, new = normal(B, H, S, 4), normal(B, H, 1, 4, seed=5)
    cache[:, :, position] = 0
    written = write_position(tf.constant(cache), tf.constant(new), at(position, S)).numpy()
    np.testing.assert_array_equal(written[:, :, position], new[:, :, 0])
    np.testing.assert_array_equal(
        np.delete(written, position, axis=2), np.delete(cache, position, axis=2)
    )
