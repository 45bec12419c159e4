"""Logistic mixtures against float64 sums over all 256 values."""

import math

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.ops.likelihoods import gaussian_nats, num_parameters, pixel_log_prob, pixel_mean

M = 3
ZERO_LOG_SCALE = -1.5  # the meaning of a parameter of 0: about the spread of natural images
COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def value_probs(mean: float, log_scale: float) -> np.ndarray:
    """Probabilities of 0..255: the probability of the bin around each value."""
    scale = math.exp(min(max(log_scale, -7), 7))
    ends = [(2 * value - 1) / 255 - 1 for value in range(1, 256)]
    below = np.array([0.0] + [logistic((end - mean) / scale) for end in ends])
    above = np.array([logistic((mean - end) / scale) for end in ends] + [0.0])
    # From the tail in which the numbers are small, so that they do not cancel.
    low = np.append(below[1:], 1.0) - below
    high = np.append(1.0, above[:-1]) - above
    return np.where(np.append(below[1:], 1.0) < 0.5, low, high)


def parts(pixel: np.ndarray, channels: int):
    """Returns weights [M], means and log-scales [ch, M] and couplings [pairs, M] of one pixel."""
    rows = pixel.astype(np.float64).reshape(-1, M)
    weights = np.exp(rows[0] - rows[0].max())
    return (
        weights / weights.sum(),
        rows[1 : 1 + channels],
        rows[1 + channels : 1 + 2 * channels] + ZERO_LOG_SCALE,
        np.tanh(rows[1 + 2 * channels :]),
    )


def location(k: int, channel: int, means, couplings, earlier) -> float:
    """Mean of a channel of component k, shifted by the channels before it."""
    first = channel * (channel - 1) // 2
    moved = sum(couplings[first + j][k] * earlier[j] for j in range(channel))
    return means[channel][k] + moved


def oracle_log_prob(pixel: np.ndarray, values: np.ndarray) -> float:
    channels = len(values)
    weights, means, log_scales, couplings = parts(pixel, channels)
    scaled = values / 127.5 - 1
    total = 0.0
    for k in range(M):
        probability = weights[k]
        for channel in range(channels):
            mean = location(k, channel, means, couplings, scaled)
            probability *= value_probs(mean, log_scales[channel][k])[values[channel]]
        total += probability
    return math.log(total)


def parameters_of(shape, channels, *, seed=0, log_scale=-2.0, spread=0.5):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, spread, [*shape, num_parameters(channels, M) // M, M])
    rows[..., 1 + channels : 1 + 2 * channels, :] += log_scale - ZERO_LOG_SCALE
    return rows.reshape([*shape, -1]).astype(np.float32)


def images_of(shape, channels, seed=1):
    images = np.random.default_rng(seed).integers(0, 256, [*shape, channels]).astype(np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return images


def test_number_of_parameters_is_that_of_the_paper():
    assert num_parameters(3, 10) == 100
    assert num_parameters(1, 10) == 30


@COMPILED
@pytest.mark.parametrize("channels", [1, 3])
def test_log_prob_equals_the_definition(channels, compiled):
    parameters, images = parameters_of([2, 3, 5], channels), images_of([2, 3, 5], channels)
    function = tf.function(pixel_log_prob, jit_compile=True) if compiled else pixel_log_prob
    result = function(tf.constant(parameters), tf.constant(images))
    for b in range(2):
        expected = sum(
            oracle_log_prob(parameters[b, y, x], images[b, y, x])
            for y in range(3)
            for x in range(5)
        )
        np.testing.assert_allclose(result[b], expected, rtol=1e-5)


@pytest.mark.parametrize("log_scale", [-20.0, -6.0, -3.0, 0.0, 3.0, 30.0])
@pytest.mark.parametrize("spread", [0.3, 2.0], ids=["inside", "also outside"])
def test_probabilities_of_all_values_sum_to_one(log_scale, spread):
    parameters = parameters_of([1], 1, log_scale=log_scale, spread=spread)
    parameters = np.tile(parameters[:, None, None], [256, 1, 1, 1])
    values = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    log_probs = pixel_log_prob(tf.constant(parameters), tf.constant(values)).numpy()
    np.testing.assert_allclose(np.exp(log_probs.astype(np.float64)).sum(), 1, rtol=2e-5)


def test_channels_are_coupled_and_their_joint_probabilities_sum_to_one():
    parameters = parameters_of([1], 3, spread=0.8)
    rng = np.random.default_rng(3)
    for channel in range(3):  # all values of one channel; later channels are summed out first
        values = np.repeat(rng.integers(0, 256, [1, 3]), 256, axis=0)
        values[:, channel] = np.arange(256)
        weights, means, log_scales, couplings = parts(parameters[0], 3)
        total = 0.0
        for row in values:
            scaled = row / 127.5 - 1
            for k in range(M):
                probability = weights[k]
                for i in range(channel + 1):
                    mean = location(k, i, means, couplings, scaled)
                    probability *= value_probs(mean, log_scales[i][k])[row[i]]
                total += probability
        given = rows_before(parameters[0], values[0], channel)
        np.testing.assert_allclose(total, given, rtol=1e-6)
    base = np.array([[[[100, 120, 90]]], [[[180, 120, 90]]]], np.uint8)
    tiled = tf.constant(np.tile(parameters[:, None, None], [2, 1, 1, 1]))
    one, other = pixel_log_prob(tiled, tf.constant(base)).numpy()
    assert abs(one - other) > 0.1


def rows_before(pixel, values, channel) -> float:
    """Returns the probability of the values before `channel`."""
    weights, means, log_scales, couplings = parts(pixel, 3)
    scaled = values / 127.5 - 1
    total = 0.0
    for k in range(M):
        probability = weights[k]
        for i in range(channel):
            mean = location(k, i, means, couplings, scaled)
            probability *= value_probs(mean, log_scales[i][k])[values[i]]
        total += probability
    return total


@COMPILED
@pytest.mark.parametrize("log_scale", [-100.0, -7.0, 0.0, 7.0, 100.0])
@pytest.mark.parametrize("mean", [-1e4, -1.0, 0.3, 1.0, 1e4])
def test_extreme_parameters_give_finite_values_and_gradients(mean, log_scale, compiled):
    parameters = np.zeros([3, 1, 1, 3 * M], np.float32)
    parameters[..., M : 2 * M] = mean
    parameters[..., 2 * M :] = log_scale - ZERO_LOG_SCALE
    images = tf.constant(np.array([0, 128, 255], np.uint8).reshape(3, 1, 1, 1))

    def evaluate(parameters):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            log_probs = pixel_log_prob(parameters, images)
        return log_probs, tape.gradient(log_probs, parameters), pixel_mean(parameters, 1)

    function = tf.function(evaluate, jit_compile=True) if compiled else evaluate
    log_probs, gradient, means = function(tf.constant(parameters))
    assert np.isfinite(log_probs).all()
    assert (log_probs.numpy() <= 1e-6).all()
    assert np.isfinite(gradient).all()
    assert np.isfinite(means).all()
    assert (means.numpy() >= 0).all()
    assert (means.numpy() <= 255).all()


def test_log_prob_of_a_distant_value_is_linear_in_the_distance():
    parameters = np.zeros([1, 1, 1, 3 * M], np.float32)
    parameters[..., M : 2 * M] = -0.5
    parameters[..., 2 * M :] = -6.0 - ZERO_LOG_SCALE
    images = tf.constant(np.full([1, 1, 1, 1], 200, np.uint8))
    # Far in the upper tail, log(F(b) - F(a)) = log(exp(-a) - exp(-b)), here about -430 nats.
    inverse, centred = math.exp(6), 200 / 127.5 - 1 + 0.5
    near, far = (centred - 1 / 255) * inverse, (centred + 1 / 255) * inverse
    expected = -near + math.log1p(-math.exp(near - far))
    np.testing.assert_allclose(
        pixel_log_prob(tf.constant(parameters), images)[0], expected, rtol=1e-5
    )


def test_gradient_equals_finite_differences():
    parameters, images = parameters_of([1, 1, 2], 3), images_of([1, 1, 2], 3)
    x = tf.constant(parameters)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(pixel_log_prob(x, tf.constant(images)))
    gradient = tape.gradient(total, x).numpy()

    def log_prob(moved):
        return sum(oracle_log_prob(moved[0, 0, i], images[0, 0, i]) for i in range(2))

    for i in range(2):
        for p in range(parameters.shape[-1]):
            up, down = parameters.astype(np.float64), parameters.astype(np.float64)
            up[0, 0, i, p] += 1e-5
            down[0, 0, i, p] -= 1e-5
            expected = (log_prob(up) - log_prob(down)) / 2e-5
            np.testing.assert_allclose(gradient[0, 0, i, p], expected, rtol=1e-3, atol=1e-4)


@COMPILED
@pytest.mark.parametrize("mean", [-3.0, -0.98, -0.2, 0.6, 1.3])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.5, 1.0])
def test_mean_equals_that_of_the_256_values_within_half_a_value(mean, log_scale, compiled):
    pixel = np.zeros([1, 1, 1, 3 * M], np.float32)
    pixel[..., :M] = [0.3, -1.0, 0.5]
    pixel[..., M : 2 * M] = [mean, mean + 0.1, mean - 0.3]
    pixel[..., 2 * M :] = log_scale - ZERO_LOG_SCALE
    function = tf.function(pixel_mean, jit_compile=True) if compiled else pixel_mean
    result = float(function(tf.constant(pixel), 1)[0, 0, 0, 0])
    weights, means, log_scales, _ = parts(pixel[0, 0, 0], 1)
    expected = sum(
        weights[k] * value_probs(means[0][k], log_scales[0][k]) @ np.arange(256) for k in range(M)
    )
    # A wide logistic covers many bins, whose rounding errors cancel.
    assert abs(result - expected) < (0.5 if log_scale < -5 else 0.02)


def test_mean_of_coupled_channels():
    pixel = parameters_of([1], 3, log_scale=-5.0, spread=0.2)[0]
    result = pixel_mean(tf.constant(pixel[None, None, None]), 3)[0, 0, 0].numpy()
    weights, means, log_scales, couplings = parts(pixel, 3)
    rng = np.random.default_rng(0)
    n = 200_000
    component = rng.choice(M, n, p=weights)
    drawn: list[np.ndarray] = []
    for channel in range(3):
        mean = means[channel][component]
        for j in range(channel):
            mean = mean + couplings[channel * (channel - 1) // 2 + j][component] * drawn[j]
        noise = rng.logistic(size=n) * np.exp(log_scales[channel][component])
        values = np.round((np.clip(mean + noise, -1, 1) + 1) * 127.5)
        drawn.append(values / 127.5 - 1)
    for channel in range(3):
        values = (drawn[channel] + 1) * 127.5
        assert abs(values.mean() - result[channel]) < 5 * values.std() / math.sqrt(n) + 0.02


def test_bfloat16_parameters_are_computed_in_float32():
    parameters = tf.cast(parameters_of([1, 2, 2], 3), tf.bfloat16)
    images = tf.constant(images_of([1, 2, 2], 3))
    exact = pixel_log_prob(tf.cast(parameters, tf.float32), images)
    assert pixel_log_prob(parameters, images).dtype == tf.float32
    np.testing.assert_array_equal(pixel_log_prob(parameters, images), exact)
    assert pixel_mean(parameters, 3).dtype == tf.float32


@COMPILED
def test_gaussian_nats_use_the_maximum_likelihood_variance(compiled):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, [3, 4, 5, 2]).astype(np.uint8)
    means = images + rng.normal(size=images.shape) * np.array([0.1, 3, 40])[:, None, None, None]
    found = tf.function(gaussian_nats, jit_compile=compiled)(means.astype(np.float32), images)
    for nats, image, mean in zip(found, images, means, strict=True):
        squares = [(float(a) - b) ** 2 + 1 / 12 for a, b in zip(image.flat, mean.flat, strict=True)]

        def of(sigma, squares=squares):
            return sum(
                math.log(sigma * math.sqrt(2 * math.pi)) + s / (2 * sigma**2) for s in squares
            )

        least = min(of(sigma) for sigma in np.geomspace(0.1, 100, 20_001))
        assert float(nats) == pytest.approx(least, rel=1e-5)


def test_gaussian_nats_are_psnr_in_other_units():
    """6.02 dB are one bit per dimension."""
    images = tf.fill([1, 8, 8, 3], tf.constant(100, tf.uint8))
    nats = [float(gaussian_nats(tf.fill(images.shape, 100.0 + e), images)[0]) for e in (20, 40)]
    assert (nats[1] - nats[0]) / 192 / math.log(2) == pytest.approx(1, rel=1e-3)
