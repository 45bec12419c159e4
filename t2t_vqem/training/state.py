"""The state of training, which checkpoints contain."""

import fnmatch
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.constants import UsageError
from t2t_vqem.models.base import Model
from t2t_vqem.output_dir import named_weights
from t2t_vqem.training.optimizer import make_slots


class TrainState:
    """Weights, their average, Adam's state and the step.

    Attributes:
      model: the model that is trained.
      averaged: a copy of the model with averaged weights; None if hparams.ema_decay is 0.
      slots: Adam's moving averages, in the order of the model's trainable variables.
      step: int64 variable, number of updates applied. The loop counts them and sets it on saving.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        make_model: Callable[[], Model],
        hparams: HParams,
        *,
        seed: int,
    ):
        """Builds everything in the strategy's scope.

        Args:
          strategy: the strategy that places the variables.
          make_model: returns a model without variables; called once or twice.
          hparams: ema_decay decides whether there is an averaged copy, and frozen which weights are
            not trained.
          seed: seed of the initial weights.

        Raises:
          UsageError: a pattern in hparams.frozen matches no trainable weight, or all are frozen.
        """
        keras.utils.set_random_seed(seed)
        with strategy.scope():
            self.model = make_model()
            self.model.build_variables()
            freeze(self.model, hparams.frozen)
            self.averaged = None
            if hparams.ema_decay:
                self.averaged = make_model()
                self.averaged.build_variables()
            self.begin_average()
            self.slots = make_slots(raw(self.model.trainable_variables))
        self._names = [variable.path for variable in self.model.trainable_variables]
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")

    @property
    def inference_model(self) -> Model:
        """The model for evaluation and decoding: the averaged copy if there is one."""
        return self.model if self.averaged is None else self.averaged

    def start(self, batches: Iterator[dict[str, np.ndarray]], *, seed: int) -> None:
        """Initialises the parts of the model that depend on data; see `Model.start`."""
        self.model.start(batches, seed=seed)
        self.begin_average()

    def begin_average(self) -> None:
        """Resets the averaged copy to the current weights."""
        if self.averaged is not None:
            _copy(self.model, self.averaged)

    def checkpoint(self) -> tf.train.Checkpoint:
        """Returns a checkpoint object of the whole state."""
        parts = {
            "model": named_weights(self.model),
            "first": dict(zip(self._names, self.slots.first, strict=True)),
            "second": dict(zip(self._names, self.slots.second, strict=True)),
            "step": self.step,
        }
        if self.averaged is not None:
            parts["averaged"] = named_weights(self.averaged)
        return tf.train.Checkpoint(**parts)


def freeze(model: Model, patterns: Sequence[str]) -> None:
    """Makes the weights not trainable whose path matches one of the patterns, as of file names."""
    trainable = model.trainable_variables
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(variable.path, pattern) for variable in trainable):
            parts = sorted({variable.path.partition("/")[0] + "/*" for variable in trainable})
            raise UsageError(
                f"frozen: {pattern!r} matches no weight that is trained by gradients. Expected a "
                f"pattern such as {', '.join(parts)}, or of a single weight, such as "
                f"{trainable[-1].path}"
            )
    for variable in trainable:
        variable.trainable = not any(fnmatch.fnmatchcase(variable.path, p) for p in patterns)
    if not model.trainable_variables:
        raise UsageError(f"frozen={list(patterns)} leaves no weight to train: omit one of them")


def _copy(model: Model, copy: Model) -> None:
    """Copies the variables of a model to a second instance of it."""
    values = raw(model.variables), raw(copy.variables)
    for variable, other in zip(model.variables, copy.variables, strict=True):
        if variable.path != other.path:
            raise ValueError(
                f"the variable {variable.path!r} has another path, {other.path!r}, in a second "
                f"instance of the model {model.name!r}, so checkpoints would not match. Give each "
                f"layer of the model a name"
            )
    for value, other in zip(*values, strict=True):
        other.assign(value)


def raw(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    """Returns the TensorFlow variables of Keras variables.

    Raises:
      tf.errors.AbortedError: a variable could not be created because another worker was lost.
    """
    values = [variable.value for variable in variables]
    for variable, value in zip(variables, values, strict=True):
        if not hasattr(value, "assign"):  # Keras hides the error and returns a tensor instead
            raise tf.errors.AbortedError(None, None, f"{variable.path} could not be created")
    return values
