import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.training.optimizer import (
    adam_update,
    average_update,
    clip_by_global_norm,
    make_slots,
)

SHAPES = [(3, 2), (5,), (2, 1, 3)]


def draw(rng):
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def update(variables, slots, gradients, step, rate, hparams):
    adam_update(
        variables,
        slots,
        gradients,
        step=step,
        learning_rate=rate,
        hparams=hparams,
    )


def adam_in_float64(weights, gradients, rates, hparams):
    """Algorithm 1 of Kingma and Ba, element by element."""
    results = []
    for place, weight in enumerate(weights):
        result = np.array(weight, np.float64)
        for index in np.ndindex(weight.shape):
            w, m, v = float(weight[index]), 0.0, 0.0
            for t, (step_gradients, rate) in enumerate(zip(gradients, rates, strict=True), 1):
                g = float(step_gradients[place][index])
                m = hparams.adam_beta1 * m + (1 - hparams.adam_beta1) * g
                v = hparams.adam_beta2 * v + (1 - hparams.adam_beta2) * g * g
                m_hat = m / (1 - hparams.adam_beta1**t)
                v_hat = v / (1 - hparams.adam_beta2**t)
                decay = hparams.weight_decay * w if weight.ndim > 1 else 0.0
                w -= rate * (m_hat / (v_hat**0.5 + hparams.adam_epsilon) + decay)
            result[index] = w
        results.append(result)
    return results


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_against_its_definition(weight_decay):
    hparams = HParams(adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-3, weight_decay=weight_decay)
    rng = np.random.default_rng(0)
    weights, gradients, rates = draw(rng), [draw(rng) for _ in range(6)], [0.1, 0.3, 0.2] * 2
    variables = [tf.Variable(weight) for weight in weights]
    slots = make_slots(variables)
    compiled = tf.function(update, jit_compile=True)
    for step, (step_gradients, rate) in enumerate(zip(gradients, rates, strict=True)):
        update_fn = compiled if step % 2 else update  # eager and compiled must agree
        tensors = [tf.constant(gradient) for gradient in step_gradients]
        update_fn(variables, slots, tensors, tf.constant(step), tf.constant(rate), hparams)
    for variable, wanted in zip(
        variables, adam_in_float64(weights, gradients, rates, hparams), strict=True
    ):
        np.testing.assert_allclose(variable.numpy(), wanted, rtol=2e-5, atol=2e-6)


def test_clipping_bounds_the_global_norm():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]
    clipped, norm = clip_by_global_norm(gradients, 1.0)
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(clipped[0], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped[1], [[0.8]], rtol=1e-6)


@pytest.mark.parametrize("clip_norm", [0.0, 6.0])
def test_clipping_does_not_change_small_gradients(clip_norm):
    clipped, norm = clip_by_global_norm([tf.constant([3.0, 4.0])], clip_norm)
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_array_equal(clipped[0], [3.0, 4.0])


def test_norm_is_not_finite_if_a_gradient_is_not():
    _, norm = clip_by_global_norm([tf.constant([1.0, np.inf])], 1.0)
    assert not np.isfinite(norm)


def test_average_has_a_low_decay_at_first():
    variable, average = tf.Variable([0.0]), tf.Variable([0.0])
    wanted = 0.0
    for step, value in enumerate([5.0, -2.0, 7.0, 1.0] * 10):
        variable.assign([value])
        average_update([average], [variable], step=tf.constant(step), decay=0.6)
        decay = min(0.6, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * value
        assert float(average[0]) == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert decay == 0.6


def test_average_copies_variables_that_are_not_trained():
    counter, copy = tf.Variable(7, trainable=False), tf.Variable(0, trainable=False)
    average_update([copy], [counter], step=tf.constant(0), decay=0.99)
    assert int(copy) == 7
