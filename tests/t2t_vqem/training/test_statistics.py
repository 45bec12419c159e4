"""What a model learns without gradients is the same on one device, on two, and in parts."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.layers import VectorQuantizer
from t2t_vqem.models.base import LossOutput, Model
from t2t_vqem.training.state import TrainState
from t2t_vqem.training.step import TrainStep
from t2t_vqem.training.strategies import Replicas, make_strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodesHParams(HParams):
    """Hyperparameters of the model below."""


class Codes(Model):
    """Says a vector from its code."""

    kind = "soft_em"
    revive_below = 0.2

    def __init__(self, hparams: HParams):
        """Makes the layers."""
        super().__init__(hparams, name="codes")
        self.encoder = keras.layers.Dense(4, name="encoder")
        self.quantizer = VectorQuantizer(
            7,
            4,
            kind=self.kind,
            num_codebooks=2,
            revive_below=self.revive_below,
            decay=0.8,
            name="quantizer",
        )
        self.decoder = keras.layers.Dense(3, name="decoder")

    def example_batch(self):
        """One vector."""
        return {"x": tf.ones([1, 3]), "mask": tf.ones([1], tf.bool)}

    def start(self, batches, *, seed):
        """Begins with K-means over two batches."""
        parts = [next(batches) for _ in range(2)]
        x = np.concatenate([batch["x"][batch["mask"]] for batch in parts])
        self.quantizer.start(self.encoder(x), seed=seed)

    def loss(self, batch, rng=None):
        """Squared errors of real vectors."""
        mask = batch["mask"]
        output = self.quantizer.quantize_vectors(self.encoder(batch["x"]), mask, rng=rng)
        weights = tf.cast(mask, tf.float32)
        errors = tf.reduce_sum(tf.square(self.decoder(output.vectors) - batch["x"]), -1)
        loss = tf.reduce_sum(errors * weights) + output.loss
        statistics = output.statistics
        if rng is None:
            statistics = self.quantizer.usage(output.ids, mask)
        return LossOutput(loss, tf.reduce_sum(weights), {}, statistics)

    def state_variables(self):
        """Those of the quantiser."""
        return self.quantizer.state

    def update_state(self, values, statistics, before):
        """As the quantiser does."""
        return self.quantizer.update(values, statistics, before)


class GradientCodes(Codes):
    """The same, its codes learned by gradient."""

    kind = "vq"


class HardCodes(Codes):
    """Without draws, which depend on the index of the batch."""

    kind = "hard_em"
    revive_below = 0.0


class HardGradientCodes(GradientCodes):
    """Without draws too."""

    revive_below = 0.0


def make_batches(count: int, rows: int = 12) -> list[dict[str, np.ndarray]]:
    """Returns batches of vectors of which the second half has more padding than the first."""
    rng = np.random.default_rng(0)
    mask = np.arange(rows) % np.where(np.arange(rows) < 6, 4, 2) > 0
    return [
        {"x": rng.normal(size=(rows, 3)).astype(np.float32), "mask": mask} for _ in range(count)
    ]


def divisible(batch: dict[str, np.ndarray], replicas: int) -> dict[str, np.ndarray]:
    """Adds empty rows, as the reader does."""
    missing = -len(batch["mask"]) % replicas
    return {
        "x": np.pad(batch["x"], [(0, missing), (0, 0)], constant_values=9.0),
        "mask": np.pad(batch["mask"], (0, missing)),
    }


def train(model, devices, batches, *, parts=1, xla=False, start=True):
    """Returns the variables and the last figures after a step for every `parts` batches."""
    hparams = CodesHParams(
        learning_rate=0.05, warmup_steps=1, clip_norm=0.0, ema_decay=0.5, schedule="constant"
    )
    strategy = make_strategy("auto", devices)
    state = TrainState(strategy, lambda: model(hparams), hparams, seed=2)
    if start:
        state.start(iter(make_batches(2)), seed=3)
    step = TrainStep(strategy, state, hparams, seed=2, train_steps=9, xla=xla)
    replicas = Replicas(strategy)
    result = None
    for number in range(0, len(batches), parts):
        group = [
            replicas.distribute(divisible(batch, replicas.total), len(batch["mask"]))
            for batch in batches[number : number + parts]
        ]
        result = step(group, step=number // parts)
    variables = {v.path: v.numpy() for v in [*state.model.variables, *state.averaged.variables]}
    for variable in state.model.quantizer.state:
        copies = strategy.experimental_local_results(variable.value)
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0], err_msg=variable.path)
    return variables, result.metrics


@pytest.mark.slow
@pytest.mark.parametrize("model", [Codes, GradientCodes])
@pytest.mark.parametrize(("start", "rows"), [(True, 12), (False, 12), (False, 11)])
def test_two_replicas_give_the_codes_of_one_device(model, start, rows):
    batches = make_batches(6, rows)
    one, figures = train(model, ["cpu:0"], batches, start=start)
    two, figures_of_two = train(model, ["cpu:0", "cpu:1"], batches, start=start)
    assert {"perplexity", "codes_used", "codes_moved", "codes_revived"} == set(figures)
    for path, values in one.items():
        np.testing.assert_allclose(two[path], values, rtol=1e-4, atol=1e-5, err_msg=path)
    for name, (value, _) in figures.items():
        np.testing.assert_allclose(figures_of_two[name][0], value, rtol=1e-4, err_msg=name)
    assert one["quantizer/age"] == 6 + start


def test_compiled_is_eager():
    batches = make_batches(3)
    eager, compiled = (train(Codes, ["cpu:0"], batches, xla=xla)[0] for xla in (False, True))
    for path, values in eager.items():
        np.testing.assert_allclose(compiled[path], values, rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("model", [HardCodes, HardGradientCodes])
def test_accumulated_batches_are_one_large_batch(model):
    parts = make_batches(6)
    wholes = [
        {name: np.concatenate([parts[first][name], parts[first + 1][name]]) for name in parts[0]}
        for first in (0, 2, 4)
    ]
    apart, figures = train(model, ["cpu:0"], parts, parts=2)
    together, figures_together = train(model, ["cpu:0"], wholes)
    for path, values in together.items():
        np.testing.assert_allclose(apart[path], values, rtol=1e-4, atol=1e-5, err_msg=path)
    assert apart["quantizer/age"] == 3 + 1
    for name, (value, _) in figures_together.items():
        np.testing.assert_allclose(figures[name][0], value, rtol=1e-4, atol=1e-6, err_msg=name)
