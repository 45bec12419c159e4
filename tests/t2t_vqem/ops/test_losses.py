"""Cross-entropy against a float64 loop over the definition."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.ops.losses import drawn_cross_entropy, token_cross_entropy

B, T, V = 3, 5, 7


def example():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, [B, T, V]).astype(np.float32)
    targets = rng.integers(1, V, [B, T]).astype(np.int32)
    targets[0, 3:] = 0
    targets[2] = 0
    return logits, targets


def oracle(logits, targets, smoothing):
    loss = nll = correct = weight = squared_log_z = 0.0
    for row, row_targets in zip(logits.astype(np.float64), targets, strict=True):
        for values, target in zip(row, row_targets, strict=True):
            if target == 0:
                continue
            log_p = np.log(np.exp(values) / np.exp(values).sum())
            wanted = np.full(V, smoothing / V)
            wanted[target] += 1 - smoothing
            loss -= (wanted * log_p).sum()
            nll -= log_p[target]
            correct += values.argmax() == target
            weight += 1
            squared_log_z += np.log(np.exp(values).sum()) ** 2
    return loss, nll, correct, weight, squared_log_z


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("compiled", [False, True])
def test_sums_equal_the_definition(smoothing, compiled):
    logits, targets = example()
    fn = tf.function(token_cross_entropy, jit_compile=True) if compiled else token_cross_entropy
    sums = fn(tf.constant(logits), tf.constant(targets), tf.constant(targets != 0), smoothing)
    np.testing.assert_allclose(sums, oracle(logits, targets, smoothing), rtol=1e-6)


def test_gradient_is_softmax_minus_the_smoothed_target():
    logits, targets = example()
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = token_cross_entropy(x, tf.constant(targets), tf.constant(targets != 0), 0.1).loss
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = (softmax - 0.9 * np.eye(V)[targets] - 0.1 / V) * (targets != 0)[..., None]
    np.testing.assert_allclose(tape.gradient(loss, x), expected, atol=2e-6)


def test_logits_of_a_thousand_are_finite():
    sums = token_cross_entropy(
        tf.constant([[[1000.0, -1000.0]]]), tf.constant([[1]]), tf.constant([[True]]), 0.0
    )
    np.testing.assert_allclose(sums.nll, 2000.0)


def test_padding_alone_has_no_weight():
    sums = token_cross_entropy(
        tf.ones([2, 3, V]), tf.zeros([2, 3], tf.int32), tf.zeros([2, 3], tf.bool), 0.1
    )
    assert [float(value) for value in sums] == [0, 0, 0, 0, 0]


def test_drawn_codes_are_weighted_by_their_share_of_the_draws():
    logits, targets = example()
    drawn = np.random.default_rng(1).integers(0, V, [B, T, 4]).astype(np.int32)
    expected = 0.0
    for row, codes, row_targets in zip(logits.astype(np.float64), drawn, targets, strict=True):
        for values, draws, target in zip(row, codes, row_targets, strict=True):
            wanted = np.bincount(draws, minlength=V) / 4
            if target:
                expected -= (wanted * np.log(np.exp(values) / np.exp(values).sum())).sum()
    found = drawn_cross_entropy(tf.constant(logits), tf.constant(drawn), tf.constant(targets != 0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
