"""A model that is small enough to train in every test, and two devices to train it on."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.config import HParams
from t2t_vqem.fields import option
from t2t_vqem.models.base import LossOutput, Model
from t2t_vqem.ops.random import dropout
from t2t_vqem.training.state import TrainState
from t2t_vqem.training.step import TrainStep
from t2t_vqem.training.strategies import Replicas, make_strategy

# Devices can be made only before anything is computed, so when tests are collected.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyHParams(HParams):
    """Hyperparameters of the toy model."""

    model: ClassVar[str] = "toy"
    width: int = option(6, "width of the embeddings", minimum=1)
    dropout: float = option(0.3, "probability to drop a unit", minimum=0, below=1)
    ema_decay: float = option(0.9, "decay of the averaged copy", minimum=0, below=1)
    learning_rate: float = option(0.02, "highest rate", minimum=0)
    warmup_steps: int = option(3, "updates of warm-up", minimum=0)
    batch_size: int = option(60, "padded positions", minimum=1)
    num_buckets: int = option(1, "lengths", minimum=1)
    max_length: int = option(16, "positions", minimum=2)


class Toy(Model):
    """Says the i-th target token from the i-th source token alone."""

    def __init__(self, hparams: ToyHParams, *, vocab_size: int):
        """Makes the layers, some of them in a list, as stacks are."""
        super().__init__(hparams, name="toy")
        policy = self.dtype_policy
        self.embed = keras.layers.Embedding(vocab_size, hparams.width, name="embed", dtype=policy)
        self.hidden = [
            keras.layers.Dense(hparams.width, activation="tanh", name=f"hidden_{i}", dtype=policy)
            for i in range(2)
        ]
        self.out = keras.layers.Dense(vocab_size, name="out", dtype=policy)

    def example_batch(self) -> dict[str, tf.Tensor]:
        """One row of two tokens."""
        return {name: tf.ones([1, 2], tf.int32) for name in ("inputs", "targets")}

    def logits(self, inputs, rng=None):
        x = dropout(self.embed(inputs), self.hparams.dropout, rng)
        for layer in self.hidden:
            x = dropout(x + layer(x), self.hparams.dropout, rng)
        return tf.cast(self.out(x), tf.float32)

    def loss(self, batch, rng=None) -> LossOutput:
        """Cross-entropy, summed over the real target tokens, in nats."""
        targets = batch["targets"]
        logits = self.logits(batch["inputs"], rng)
        real = tf.cast(targets != 0, tf.float32)
        nll = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == targets, tf.float32)
        loss, weight = tf.reduce_sum(nll * real), tf.reduce_sum(real)
        accuracy = tf.reduce_sum(right * real)
        return LossOutput(loss, weight, {"nll": (loss, weight), "accuracy": (accuracy, weight)})

    def infer(self, inputs, options, *, seed, row_ids, max_length):
        """Takes the likeliest token at each position."""
        del options, seed, row_ids
        tokens = tf.argmax(self.logits(inputs), -1, tf.int32)
        tokens = tf.pad(tokens, [[0, 0], [0, max_length - tokens.shape[1]]])
        return Decoded(tokens[:, :max_length], tf.zeros(tokens.shape[0]))


class Decoded(NamedTuple):
    tokens: tf.Tensor
    scores: tf.Tensor


class Run(NamedTuple):
    """A toy model with everything to train it."""

    state: TrainState
    step: TrainStep
    replicas: Replicas
    strategy: tf.distribute.Strategy

    def weights(self) -> list[np.ndarray]:
        """All that an update changes."""
        state = self.state
        models = [state.model] + ([state.averaged] if state.averaged is not None else [])
        variables = [v.value for model in models for v in model.variables]
        variables += [*state.slots.first, *state.slots.second]
        return [variable.numpy() for variable in variables]


VOCAB_SIZE = 13


@pytest.fixture
def toy_batches():
    """Returns a function that makes global batches [8, 5]; rows hold few tokens or many."""

    def make(number: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
        rng = np.random.default_rng(seed)
        batches = []
        for _ in range(number):
            batch = {
                name: rng.integers(2, VOCAB_SIZE, (8, 5)).astype(np.int32)
                for name in ("inputs", "targets")
            }
            batch["targets"][5:, 2:] = 0  # so that the second of two replicas has fewer tokens
            batch["inputs"][7] = batch["targets"][7] = 0  # an empty row
            batches.append(batch)
        return batches

    return make


@pytest.fixture
def toy_run():
    """Returns a function that makes a `Run` of the toy model, not compiled: that takes seconds."""

    def make(*devices: str, xla: bool = False, seed: int = 1, **hparams) -> Run:
        strategy = make_strategy("auto", devices)
        hparams = ToyHParams(**hparams)
        state = TrainState(
            strategy, lambda: Toy(hparams, vocab_size=VOCAB_SIZE), hparams, seed=seed
        )
        step = TrainStep(strategy, state, hparams, seed=seed, train_steps=20, xla=xla)
        return Run(state, step, Replicas(strategy), strategy)

    return make


@pytest.fixture
def toy_registered():
    """Registers the toy model and its set "toy" for one test."""
    with registry.models.temporary(), registry.hparams_sets.temporary():
        registry.models.register("toy")(Toy)
        registry.hparams_sets.register("toy")(ToyHParams)
        yield
