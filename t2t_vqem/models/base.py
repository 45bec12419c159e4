"""What training and decoding expect of a model, whatever it models."""

from typing import NamedTuple

import keras
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.ops.random import Rng


class LossOutput(NamedTuple):
    """The training objective of a batch, as sums that replicas can add up."""

    loss: tf.Tensor  # float32 scalar, nats, summed over the batch
    weight: tf.Tensor  # float32 scalar, what the loss is to be divided by (tokens, pixels)
    metrics: dict[str, tuple[tf.Tensor, tf.Tensor]]  # name -> (sum, weight), float32 scalars


class Model(keras.layers.Layer):
    """A registered model: hparams in, a loss and an inference out. Both can be compiled by XLA."""

    def __init__(self, hparams: HParams, *, name: str):
        """Keeps the hparams and sets the precision.

        Args:
          hparams: the model's hparams; `dtype` "bfloat16" computes in mixed precision.
          name: the model's name.
        """
        policy = "mixed_bfloat16" if hparams.dtype == "bfloat16" else hparams.dtype
        super().__init__(name=name, dtype=policy)
        self.hparams = hparams

    def loss(self, batch: dict[str, tf.Tensor], rng: Rng | None = None) -> LossOutput:
        """Computes the objective of a batch; `rng=None` evaluates without randomness."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss.")

    def example_batch(self) -> dict[str, tf.Tensor]:
        """A smallest batch of the right structure, to create the variables with."""
        raise NotImplementedError(f"{type(self).__name__} defines no example batch.")

    def build_variables(self) -> None:
        """Creates all variables. Call it in the strategy's scope, before the optimiser is built."""
        self.loss(self.example_batch())
        self.built = True
