"""Encoding in several passes: which latents depend on which codes."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers.encoding_passes import ORDERS, EncodingPasses, passes_of

B, H, W, FEATURES, WIDTH = 2, 4, 6, 5, 3


def make(num_passes: int) -> tuple[EncodingPasses, tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    layer = EncodingPasses(
        WIDTH, num_passes=num_passes, channels=8, num_blocks=1, residual_channels=4
    )
    features = tf.constant(rng.normal(size=[B, H, W, FEATURES]), tf.float32)
    latents = tf.constant(rng.normal(size=[B, H, W, WIDTH]), tf.float32)
    layer(features, latents, quantize=tf.round)
    for variable in layer.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.5, variable.shape))
    return layer, features, latents


@pytest.mark.parametrize("num_passes", ORDERS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_positions_of_one_pass_are_not_adjacent(num_passes, size):
    passes = passes_of(*size, num_passes)
    assert passes.shape == size
    assert passes[0, 0] == 0
    if size == (8, 8):
        np.testing.assert_array_equal(np.bincount(passes.ravel()), [64 // num_passes] * num_passes)
    if num_passes > 1:
        assert (passes[1:] != passes[:-1]).all()
        assert (passes[:, 1:] != passes[:, :-1]).all()


@pytest.mark.parametrize("num_passes", [2, 4])
def test_a_pass_depends_only_on_the_codes_of_earlier_passes(num_passes):
    layer, features, latents = make(num_passes)
    passes = passes_of(H, W, num_passes)
    result = layer(features, latents, quantize=tf.round).numpy()
    np.testing.assert_array_equal(result[:, passes == 0], latents.numpy()[:, passes == 0])
    assert (result[:, passes > 0] != latents.numpy()[:, passes > 0]).all()
    for index in range(num_passes):
        other = tf.constant((passes == index)[..., None], tf.float32)
        changed = layer(
            features, latents, quantize=lambda x, other=other: tf.round(x) + other
        ).numpy()
        same = (changed == result).all((0, -1))
        assert same[passes <= index].all()
        assert index == num_passes - 1 or not same[passes == index + 1].any()


def test_the_second_pass_equals_a_float64_computation():
    """Computes the latents of the second pass from the layer's weights and equations."""
    layer, features, latents = make(2)
    first = passes_of(H, W, 2)[None, :, :, None] == 0
    codes = np.where(first, np.round(latents.numpy()), 0)
    mark = np.broadcast_to(first, [B, H, W, 1])
    x = np.concatenate([codes, mark], -1).astype(np.float64)
    weights = {variable.path: variable.numpy() for variable in layer.trainable_variables}

    def weight(part: str) -> np.ndarray:
        (found,) = (value for path, value in weights.items() if path.endswith(part))
        return found.astype(np.float64)

    def convolved(x: np.ndarray, name: str) -> np.ndarray:
        kernel, padded = weight(f"{name}/kernel"), np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        parts = (padded[:, i : i + H, j : j + W] @ kernel[i, j] for i in range(3) for j in range(3))
        return sum(parts) + weight(f"{name}/bias")

    def product(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weight(f"{name}/kernel") + weight(f"{name}/bias")

    x = product(features.numpy(), "features") + convolved(x, "codes")
    x += product(np.maximum(convolved(np.maximum(x, 0), "contract"), 0), "expand")
    expected = latents.numpy() + np.where(first, 0, product(np.maximum(x, 0), "output"))
    found = layer(features, latents, quantize=tf.round)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_gradients_reach_earlier_passes_through_their_codes():
    layer, features, latents = make(2)
    second = passes_of(H, W, 2) == 1
    with tf.GradientTape() as tape:
        tape.watch(latents)
        result = layer(features, latents, quantize=tf.identity)
        total = tf.reduce_sum(tf.boolean_mask(result, second, axis=1))
    gradient = tape.gradient(total, latents).numpy()
    assert np.abs(gradient[:, ~second]).max() > 0
