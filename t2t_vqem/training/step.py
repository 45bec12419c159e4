"""One update of the weights, from one or several global batches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.config import HParams
from t2t_vqem.models.base import LossOutput
from t2t_vqem.ops.random import Rng
from t2t_vqem.training.optimizer import Slots, adam_update, average_update, clip_by_global_norm
from t2t_vqem.training.state import TrainState, raw
from t2t_vqem.training.strategies import ReplicaBatch


class Sums(NamedTuple):
    """Sums over replicas and accumulated batches."""

    gradients: list[tf.Tensor]  # gradients of the summed loss, float32
    output: LossOutput
    stop_wishes: tf.Tensor  # float32 scalar; see `StopRequest`


class StepResult(NamedTuple):
    """Results of one update, over all its batches and replicas; float32 scalars."""

    loss: tf.Tensor  # sum, in nats
    weight: tf.Tensor  # number of terms of that sum (target tokens)
    metrics: dict[str, tuple[tf.Tensor, tf.Tensor]]  # name -> (sum, weight)
    gradient_norm: tf.Tensor  # norm of the mean gradient, before clipping
    learning_rate: tf.Tensor
    stop_wishes: tf.Tensor  # above 0 if a worker was asked to stop


class TrainStep:
    """Computes gradients, reduces them over the replicas and updates the weights.

    Losses and gradients are sums. The mean gradient is the sum over all replicas and accumulated
    batches, divided by the sum of the weights, so it does not depend on how rows are divided.

    With XLA the forward and backward pass is one compiled function, and the update another. They
    are separate because the sum over the replicas is taken between them, and because the update is
    then compiled only once, not for each shape of the batch.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        state: TrainState,
        hparams: HParams,
        *,
        seed: int,
        train_steps: int,
        xla: bool,
    ):
        """Prepares the step, without tracing or compiling.

        Args:
          strategy: the strategy under which `state` was built.
          state: the state to update.
          hparams: hyperparameters of the optimiser.
          seed: seed of dropout and other randomness.
          train_steps: length of the run, for schedules that depend on it.
          xla: whether to compile with XLA.
        """
        self._strategy = strategy
        self._state = state
        self._hparams = hparams
        self._seed = seed
        self._train_steps = train_steps
        self._schedule = registry.schedules.get(hparams.schedule)
        self._gradients = tf.function(self._compute_gradients, jit_compile=xla, autograph=False)
        self._update = tf.function(self._compute_update, jit_compile=xla, autograph=False)
        self._advance = tf.function(self._run_replicas, autograph=False)

    def __call__(
        self, batches: Sequence[ReplicaBatch], *, step: int, stop_wish: int = 0
    ) -> StepResult:
        """Applies one update.

        Args:
          batches: hparams.accumulate_steps distributed batches.
          step: number of updates before this one.
          stop_wish: 1 if this process was asked to stop; all workers get the sum.

        Returns:
          The results, on the device: reading them waits for the update.
        """
        sums = None
        # NumPy numbers, because TensorFlow caches a tensor of every Python number without limit.
        time = tf.constant(np.int32(step))
        wish = tf.constant(np.float32(stop_wish))
        for index, batch in enumerate(batches):
            micro_step = tf.constant(np.int32(step * len(batches) + index))
            last = index + 1 == len(batches)
            sums = self._advance(sums, batch, micro_step, time, wish, update=last)
        return self._strategy.experimental_local_results(sums)[0]

    def _run_replicas(self, sums, batch, micro_step, step, stop_wish, *, update: bool):
        args = (sums, batch, micro_step, step, stop_wish, update)
        return self._strategy.run(self._replica_step, args=args)

    def _replica_step(
        self, sums: Sums | None, batch: ReplicaBatch, micro_step, step, stop_wish, update: bool
    ) -> Sums | StepResult:
        """Adds the gradients of a batch to `sums`; after the last batch, updates the weights."""
        gradients, output = self._gradients(batch, micro_step)
        new = Sums(gradients, output, tf.identity(stop_wish))
        if sums is not None:
            new = tf.nest.map_structure(tf.add, sums, new)
        if not update:
            return new
        context = tf.distribute.get_replica_context()
        total = tf.nest.pack_sequence_as(
            new, context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(new))
        )
        norm, rate, reports = self._update(total, step, self._own_copies())
        output = total.output
        metrics = {name: (value, tf.ones([])) for name, value in reports.items()}
        metrics = {**output.metrics, **metrics}
        return StepResult(output.loss, output.weight, metrics, norm, rate, total.stop_wishes)

    def _compute_gradients(
        self, batch: ReplicaBatch, micro_step
    ) -> tuple[list[tf.Tensor], LossOutput]:
        variables = raw(self._state.model.trainable_variables)
        rng = Rng(self._seed, micro_step, batch.row_offset, batch.num_rows)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            output = self._state.model.loss(batch.features, rng=rng)
        gradients = tape.gradient(
            output.loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        # Dense, also for an embedding: sums over replicas and batches need dense gradients.
        gradients = [tf.cast(tf.convert_to_tensor(gradient), tf.float32) for gradient in gradients]
        return gradients, output

    def _own_copies(self) -> "Copies":
        """Returns the current replica's own copies of the variables."""
        state = self._state
        learned = state.model.state_variables()
        return Copies(
            weights=own_copies(raw(state.model.trainable_variables)),
            slots=Slots(*map(own_copies, state.slots)),
            state=tf.nest.pack_sequence_as(learned, own_copies(raw(learned))),
            averaged=own_copies(raw(state.averaged.variables)) if state.averaged else None,
            averaged_from=own_copies(raw(state.model.variables)) if state.averaged else None,
        )

    def _compute_update(
        self, total: Sums, step: tf.Tensor, copies: "Copies"
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        hparams = self._hparams
        rate = self._schedule(
            step,
            learning_rate=hparams.learning_rate,
            warmup_steps=hparams.warmup_steps,
            train_steps=self._train_steps,
        )
        weight = tf.maximum(total.output.weight, 1.0)  # a batch of empty rows changes nothing
        gradients = [gradient / weight for gradient in total.gradients]
        gradients, norm = clip_by_global_norm(gradients, hparams.clip_norm)
        before = tf.nest.map_structure(tf.convert_to_tensor, copies.state)
        adam_update(
            copies.weights,
            copies.slots,
            gradients,
            step=step,
            learning_rate=rate,
            hparams=hparams,
        )
        values = tf.nest.map_structure(tf.convert_to_tensor, copies.state)
        values, reports = self._state.model.update_state(values, total.output.statistics, before)
        tf.nest.map_structure(lambda variable, value: variable.assign(value), copies.state, values)
        if copies.averaged:
            average_update(
                copies.averaged, copies.averaged_from, step=step, decay=hparams.ema_decay
            )
        return norm, rate, reports


class Copies(NamedTuple):
    """One replica's copies of the variables that an update changes."""

    weights: list[tf.Variable]
    slots: Slots
    state: tuple[tf.Variable, ...]  # variables that the model updates, in its own NamedTuple
    averaged: list[tf.Variable] | None
    averaged_from: list[tf.Variable] | None  # all variables of the model, in `averaged`'s order


def own_copies(variables: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Returns, in a replica, its own copies of distributed variables.

    A compiled function can update these. The distributed variable itself must be updated for all
    replicas together, outside of compiled functions.
    """
    context = tf.distribute.get_replica_context()
    replica = tf.get_static_value(context.replica_id_in_sync_group)
    if replica is None:  # on a TPU all replicas run one program; the variable selects its copy
        return list(variables)
    copies = [context.strategy.experimental_local_results(variable) for variable in variables]
    return [copy[int(replica) % len(copy)] for copy in copies]
