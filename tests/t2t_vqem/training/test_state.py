import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.constants import UsageError
from t2t_vqem.models.base import Model
from t2t_vqem.training.state import TrainState, raw
from t2t_vqem.training.strategies import make_strategy


class Nameless(Model):
    """A model whose layer has no explicit name."""

    def __init__(self, hparams):
        super().__init__(hparams, name="nameless")
        self.layer = keras.layers.Dense(3)

    def example_batch(self):
        return np.ones([1, 2], np.float32)

    def loss(self, batch, rng=None):
        return self.layer(batch)


def test_average_starts_as_a_copy(toy_run):
    state = toy_run().state
    assert state.inference_model is state.averaged is not state.model
    for a, b in zip(state.model.variables, state.averaged.variables, strict=True):
        assert a is not b
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_initial_weights_depend_on_the_seed(toy_run):
    first, same, other = (toy_run(seed=seed).weights()[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0


def test_frozen_weights_stay_and_the_others_train_as_before(toy_run, toy_batches):
    frozen = ("embed/*", "*_1/bias")
    run, free = toy_run(frozen=frozen, clip_norm=0.0), toy_run(clip_norm=0.0)
    names = {v.path for v in run.state.model.variables if not v.trainable}
    assert names == {"embed/embeddings", "hidden_1/bias"}
    assert len(run.state.slots.first) == len(free.state.slots.first) - 2
    start = [variable.numpy() for variable in run.state.model.variables]
    (batch,) = toy_batches(1)
    for each in (run, free):
        each.step([each.replicas.distribute(batch)], step=0)
    models = [(each.state.model, each.state.averaged) for each in (run, free)]
    for ours, theirs in zip(*models, strict=True):
        for old, new, other in zip(start, ours.variables, theirs.variables, strict=True):
            expected = old if new.path in names else other.numpy()
            np.testing.assert_array_equal(new.numpy(), expected, err_msg=new.path)
            assert np.abs(other.numpy() - old).max() > 0


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("embed/*", "encoder/*"), r"'encoder/\*' matches no weight .* embed/\*, hidden_0/\*, hid"),
        (("*",), r"frozen=\['\*'\] leaves no weight to train"),
    ],
)
def test_patterns_that_freeze_nothing_or_everything(toy_run, patterns, message):
    with pytest.raises(UsageError, match=message):
        toy_run(frozen=patterns)


def test_layers_without_a_name_are_errors():
    hparams = HParams(ema_decay=0.9)
    with pytest.raises(ValueError, match="'nameless'.*Give each layer of the model a name"):
        TrainState(make_strategy(), lambda: Nameless(hparams), hparams, seed=1)


def test_variable_that_could_not_be_created():
    class Lost:
        path = "layer/kernel"
        value = tf.ones([2])  # the name that Keras gives it instead

    with pytest.raises(tf.errors.AbortedError, match="layer/kernel could not be created"):
        raw([Lost()])
