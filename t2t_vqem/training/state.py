"""What a run changes as it goes, all of which a checkpoint holds."""

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.models.base import Model
from t2t_vqem.output_dir import named_weights
from t2t_vqem.training.optimizer import make_slots


class TrainState:
    """Weights, their average, Adam's state and the step.

    Attributes:
      model: the model that is trained.
      averaged: its copy with averaged weights; None where hparams.ema_decay is 0.
      slots: Adam's moving averages, in the order of the model's trainable variables.
      step: int64 variable, updates applied; kept by the loop, written before saving.
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
          strategy: where the variables are to be.
          make_model: called once or twice; returns a model without variables.
          hparams: says whether there is an averaged copy.
          seed: of the initial weights.
        """
        keras.utils.set_random_seed(seed)
        with strategy.scope():
            self.model = make_model()
            self.model.build_variables()
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
        """The model to evaluate and decode with: the averaged copy where there is one."""
        return self.model if self.averaged is None else self.averaged

    def start(self, batches: Iterator[dict[str, np.ndarray]], *, seed: int) -> None:
        """Lets the model take from data what it begins with; see `Model.start`."""
        self.model.start(batches, seed=seed)
        self.begin_average()

    def begin_average(self) -> None:
        """Makes the averaged copy the model as it is now."""
        if self.averaged is not None:
            _copy(self.model, self.averaged)

    def checkpoint(self) -> tf.train.Checkpoint:
        """Returns the checkpoint of everything."""
        parts = {
            "model": named_weights(self.model),
            "first": dict(zip(self._names, self.slots.first, strict=True)),
            "second": dict(zip(self._names, self.slots.second, strict=True)),
            "step": self.step,
        }
        if self.averaged is not None:
            parts["averaged"] = named_weights(self.averaged)
        return tf.train.Checkpoint(**parts)


def _copy(model: Model, copy: Model) -> None:
    """Sets the variables of a second instance of a model to those of the first."""
    values = raw(model.variables), raw(copy.variables)
    for variable, other in zip(model.variables, copy.variables, strict=True):
        if variable.path != other.path:
            raise ValueError(
                f"the variable {variable.path!r} has another path, {other.path!r}, in a second "
                f"instance of the model {model.name!r}, so that checkpoints would not fit. Give "
                f"each layer of the model a name"
            )
    for value, other in zip(*values, strict=True):
        other.assign(value)


def raw(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    """Returns TensorFlow's variables behind those of Keras.

    Raises:
      tf.errors.AbortedError: one could not be created, since another worker was lost meanwhile.
    """
    values = [variable.value for variable in variables]
    for variable, value in zip(variables, values, strict=True):
        if not hasattr(value, "assign"):  # Keras hides the error, and shows a tensor instead
            raise tf.errors.AbortedError(None, None, f"{variable.path} could not be created")
    return values
