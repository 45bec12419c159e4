"""The bottleneck as a layer of a Keras model under `fit`, on one device and on two replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers import VectorQuantizer
from t2t_vqem.layers.codebooks import CodebookState
from t2t_vqem.training.strategies import make_strategy


def fit(strategy: tf.distribute.Strategy, kind: str, x: np.ndarray) -> tuple[dict, CodebookState]:
    """Returns the history of an autoencoder, and what its codebook has learned."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        layer = VectorQuantizer(8, 4, kind=kind, name="codes")
        dense = keras.layers.Dense
        model = keras.Sequential([keras.Input([2]), dense(4), layer, dense(2)])
        model.compile(keras.optimizers.SGD(0.05), "mse")
    history = model.fit(x, x, batch_size=64, epochs=2, shuffle=False, verbose=0).history
    return history, layer.read()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vq", "hard_em", "soft_em"])
@pytest.mark.parametrize("rows", [64, 65])  # with 65 one replica has no row of the last batch
def test_two_replicas_train(kind, rows):
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    one, _ = fit(tf.distribute.get_strategy(), kind, x)
    two, state = fit(make_strategy("auto", ["cpu:0", "cpu:1"]), kind, x)
    assert set(one) == set(two) and np.isfinite(two["loss"]).all()
    assert float(state.age) == 2 * -(-rows // 64)
    if rows == 64:  # the forward pass of the first update; Keras weighs replicas alike elsewhere
        assert one["loss"][0] == pytest.approx(two["loss"][0], rel=1e-3)
