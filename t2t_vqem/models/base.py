"""The base class of models: the interface that training and decoding use."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.ops.random import Rng


class LossOutput(NamedTuple):
    """The training objective of a batch, as sums that replicas can add up."""

    loss: tf.Tensor  # float32 scalar, nats, summed over the batch
    weight: tf.Tensor  # float32 scalar, the divisor for the mean loss (tokens, pixels)
    metrics: dict[str, tuple[tf.Tensor, tf.Tensor]]  # name -> (sum, weight), float32 scalars
    # Input of `update_state` (in training) or `describe_statistics` (in evaluation): a structure of
    # float32 tensors, which are sums like the rest.
    statistics: Any = ()


class Model(keras.layers.Layer):
    """A registered model, made from hparams. XLA can compile its loss and its inference."""

    def __init__(self, hparams: HParams, *, name: str | None = None):
        """Stores the hparams and sets the precision.

        Args:
          hparams: the model's hparams; `dtype` "bfloat16" computes in mixed precision.
          name: name of the Keras layer; default: the registered name of the model.
        """
        policy = "mixed_bfloat16" if hparams.dtype == "bfloat16" else hparams.dtype
        super().__init__(name=name or hparams.model, dtype=policy)
        self.hparams = hparams

    @property
    def progress_unit(self) -> tuple[str, int]:
        """The unit of training progress, and the weight of one unit in the loss."""
        return "tokens", 1

    def loss(self, batch: dict[str, tf.Tensor], rng: Rng | None = None) -> LossOutput:
        """Computes the objective of a batch; `rng=None` evaluates without randomness."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss.")

    def example_batch(self) -> dict[str, tf.Tensor]:
        """Returns a small batch of the right structure, for creating the variables."""
        raise NotImplementedError(f"{type(self).__name__} defines no example batch.")

    def warm_start_path(self, path: str) -> str:
        """Returns the path of the weight to use for `path` if another run has no such weight."""
        return path

    def token_variables(self) -> tuple[keras.Variable, ...]:
        """Returns the variables [V, ...] that have a row for each piece of the vocabulary."""
        return ()

    @property
    def start_step(self) -> int:
        """Number of updates before `start` is called."""
        return 0

    def start(self, batches: Iterator[dict[str, np.ndarray]], *, seed: int) -> None:
        """Initialises variables from data; most models have no such variables.

        Args:
          batches: the first global batches of the run, complete on every process.
          seed: seed of random draws.
        """

    def state_variables(self) -> tuple[keras.Variable, ...]:
        """Returns the variables that `update_state` updates: those learned without gradients.

        Returns:
          A NamedTuple of variables, or () if there are none.
        """
        return ()

    def update_state(
        self, values: Any, statistics: Any, before: Any
    ) -> tuple[Any, dict[str, tf.Tensor]]:
        """Computes the state after an update; a pure function, every replica computes the same.

        Args:
          values: current values of `state_variables`, in the same structure.
          statistics: `LossOutput.statistics`, summed over the update's batches and replicas.
          before: values before this update's gradients were applied.

        Returns:
          New values in that structure, and float32 scalars to report.
        """
        del statistics, before
        return values, {}

    def describe_statistics(self, statistics: Any) -> dict[str, tf.Tensor]:
        """Returns metrics from the statistics of an evaluation, summed over the split."""
        del statistics
        return {}

    def build_variables(self) -> None:
        """Creates all variables. Call it in the strategy's scope, before the optimiser is built."""
        self.loss(self.example_batch())
        self.built = True
