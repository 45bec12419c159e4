"""The bottleneck as a layer of a Keras model under `fit`, on one device and on two replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers import VectorQuantizer
from t2t_vqem.training.strategies import make_strategy


def fit(strategy: tf.distribute.Strategy, kind: str, x: np.ndarray) -> tuple[dict, dict]:
    """Trains an autoencoder; returns what Keras reports, and all that was learned."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        layer = VectorQuantizer(8, 4, kind=kind, name="codes")
        dense = keras.layers.Dense
        model = keras.Sequential([keras.Input([2]), dense(4), layer, dense(2)])
        model.compile(keras.optimizers.SGD(0.05), "mse")
    reported = model.fit(x, x, batch_size=64, epochs=4, shuffle=False, verbose=0).history
    reported["evaluated"] = model.evaluate(x, x, batch_size=64, verbose=0)[0]
    weights = layer.state._asdict() | dict(enumerate(model.trainable_weights))
    return reported, {name: value.numpy() for name, value in weights.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vq", "hard_em", "soft_em"])
@pytest.mark.parametrize("rows", [64, 65])  # with 65 one replica has no row of the last batch
def test_two_replicas_learn_what_one_device_learns(kind, rows):
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    one, learned = fit(tf.distribute.get_strategy(), kind, x)
    two, found = fit(make_strategy("auto", ["cpu:0", "cpu:1"]), kind, x)
    assert set(one) == set(two) and np.isfinite(two["loss"]).all()
    assert found["age"] == 4 * -(-rows // 64)
    if rows == 64:  # Keras gives replicas the same weight, however many rows they have
        for name, values in one.items():
            np.testing.assert_allclose(two[name], values, rtol=1e-5, err_msg=name)
        for name, values in learned.items():
            np.testing.assert_allclose(found[name], values, 1e-5, 1e-5, err_msg=str(name))
