"""What training and decoding expect of a model, whatever it models."""

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
    weight: tf.Tensor  # float32 scalar, what the loss is to be divided by (tokens, pixels)
    metrics: dict[str, tuple[tf.Tensor, tf.Tensor]]  # name -> (sum, weight), float32 scalars
    # What `update_state` (in training) or `describe_statistics` (in evaluation) needs of the batch:
    # a structure of float32 tensors that add up like the rest.
    statistics: Any = ()


class Model(keras.layers.Layer):
    """A registered model: hparams in, a loss and an inference out. Both can be compiled by XLA."""

    def __init__(self, hparams: HParams, *, name: str | None = None):
        """Keeps the hparams and sets the precision.

        Args:
          hparams: the model's hparams; `dtype` "bfloat16" computes in mixed precision.
          name: the Keras layer's name; by default the name that the model is registered under.
        """
        policy = "mixed_bfloat16" if hparams.dtype == "bfloat16" else hparams.dtype
        super().__init__(name=name or hparams.model, dtype=policy)
        self.hparams = hparams

    @property
    def progress_unit(self) -> tuple[str, int]:
        """What the progress of training is counted in, and the loss's weight of one."""
        return "tokens", 1

    def loss(self, batch: dict[str, tf.Tensor], rng: Rng | None = None) -> LossOutput:
        """Computes the objective of a batch; `rng=None` evaluates without randomness."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss.")

    def example_batch(self) -> dict[str, tf.Tensor]:
        """A smallest batch of the right structure, to create the variables with."""
        raise NotImplementedError(f"{type(self).__name__} defines no example batch.")

    def warm_start_path(self, path: str) -> str:
        """Names what the weight `path` can begin as where another run has none of that name."""
        return path

    @property
    def start_step(self) -> int:
        """How many updates there are before `start` is called."""
        return 0

    def start(self, batches: Iterator[dict[str, np.ndarray]], *, seed: int) -> None:
        """Sets what is to come from data; most models have no such thing.

        Args:
          batches: the first global batches of the run, whole on every process.
          seed: of what is drawn.
        """

    def state_variables(self) -> tuple[keras.Variable, ...]:
        """Variables that `update_state` has new values for: what is learned without gradients.

        Returns:
          A NamedTuple of variables, or () where there are none.
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
        """Turns the statistics of an evaluation, summed over the split, into figures to report."""
        del statistics
        return {}

    def build_variables(self) -> None:
        """Creates all variables. Call it in the strategy's scope, before the optimiser is built."""
        self.loss(self.example_batch())
        self.built = True
