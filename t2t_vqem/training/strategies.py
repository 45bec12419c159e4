"""Where a run computes, and which rows of a global batch each replica gets.

A replica gets a contiguous slice of the rows of each global batch, and knows the index of its first
row, which its randomness depends on. So the sum over the replicas does not depend on their number.
"""

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context as tensorflow_context

from t2t_vqem.constants import UsageError
from t2t_vqem.tf_config import TF_CONFIG, Workers, read_workers

AUTO = "auto"
STRATEGIES = (AUTO, "one_device", "mirrored", "multi_worker", "tpu")
HEARTBEAT_SECONDS = 60.0  # a host that is silent for so long is lost; one may be moved meanwhile
_logger = logging.getLogger(__name__)


def make_strategy(name: str = AUTO, devices: Sequence[str] = ()) -> tf.distribute.Strategy:
    """Makes a distribution strategy.

    Args:
      name: one of `STRATEGIES`. "auto" is multi_worker where TF_CONFIG is set, else mirrored on
        several devices, else one_device.
      devices: "gpu:0" or "cpu:1", for one_device and mirrored; if empty, all GPUs, or else the CPU.
        Processors after "cpu:0" are created: they make nothing faster, but they show that a run
        does not depend on the number of replicas.

    Raises:
      UsageError: the name is unknown, a device does not exist, devices and name do not fit, or
        the other workers are not to be met.
    """
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}. There is: {', '.join(STRATEGIES)}")
    if devices and name in ("multi_worker", "tpu"):
        raise UsageError(f"--devices says nothing to --strategy={name}: leave it out")
    if name == "tpu":
        return tf.distribute.TPUStrategy(
            tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        )
    if name == "multi_worker" or (name == AUTO and not devices and TF_CONFIG in os.environ):
        return _multi_worker_strategy(read_workers())
    devices = [device.lower() for device in devices]
    if name == "one_device" and len(devices) > 1:
        raise UsageError(f"--strategy=one_device takes one device, got {', '.join(devices)}")
    _create_logical_cpus(devices)
    existing = [_short_name(device.name) for device in tf.config.list_logical_devices()]
    for device in devices:
        if device not in existing:
            raise UsageError(f"there is no device {device!r}. There is: {', '.join(existing)}")
    devices = devices or [device for device in existing if device.startswith("gpu")] or ["cpu:0"]
    if name == "mirrored" or (name == AUTO and len(devices) > 1):
        return _mirrored_strategy(tuple(devices))
    return tf.distribute.OneDeviceStrategy(devices[0])


@functools.cache
def _mirrored_strategy(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # One for all runs of a process: TensorFlow numbers the collectives of each strategy from the
    # start, so that those of a second one would be taken for those of the first.
    return tf.distribute.MirroredStrategy(devices)


@functools.cache  # one for all runs of a process, as above
def _multi_worker_strategy(workers: Workers) -> tf.distribute.Strategy:
    """Meets the other workers: returns as soon as all are there."""
    context = tensorflow_context.context()
    if context.coordination_service is None:
        # TensorFlow itself gives up after ten seconds, and has no public name for this.
        context.configure_coordination_service = functools.partial(
            context.configure_coordination_service,
            heartbeat_timeout_in_ms=round(1000 * HEARTBEAT_SECONDS),
        )
    _logger.info("%s: waiting for all to start", workers)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise UsageError(
            f"{workers} cannot meet the others: {error.message}. Each address in TF_CONFIG must be "
            f"free on its own host and reachable from all, and all workers must be started"
        ) from error


def _short_name(device: str) -> str:
    return ":".join(device.lower().split(":")[-2:])


def _create_logical_cpus(devices: Sequence[str]) -> None:
    """Divides the processor into as many logical devices as `devices` name."""
    indices = [device.removeprefix("cpu:") for device in devices if device.startswith("cpu:")]
    number = max((int(index) + 1 for index in indices if index.isdigit()), default=0)
    cpu = tf.config.list_physical_devices("CPU")[0]
    if number > max(1, len(tf.config.get_logical_device_configuration(cpu) or ())):
        try:
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * number
            )
        except RuntimeError as error:  # TensorFlow has begun to compute
            raise UsageError(
                f"cannot divide the processor into {number} devices: {error}"
            ) from error


class Plan(Protocol):
    """Says which examples make up a batch."""

    num_steps: int | None  # None where it never ends

    def batch(self, step: int) -> tuple[np.ndarray, int]:
        """Returns the examples' indices, int64 [rows], -1 for an empty row, and their length."""


class Replicas:
    """The replicas of this process among all replicas of the run.

    A worker is a process with as many replicas as any other, and the first one is the chief. What
    one worker learns that all have to act upon goes through a sum that all of them take part in:
    else some would wait for the others for ever.

    Attributes:
        total: replicas of the run.
        local: replicas of this worker.
        first: number of its first replica.
        num_workers: processes of the run.
        worker: number of this one.
        is_chief: whether it is the one that writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        """Asks the strategy which replicas are here."""
        self._strategy = strategy
        ids: list[int] = []

        def note(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            ids.append(int(context.replica_id_in_sync_group))
            return tf.constant(0)

        strategy.experimental_distribute_values_from_function(note)
        self.total = strategy.num_replicas_in_sync
        self.first, self.local = min(ids), len(ids)
        self.num_workers, self.worker = self.total // self.local, self.first // self.local
        self.is_chief = self.worker == 0
        self._sum = tf.function(self._sum_over_replicas, autograph=False)

    def sum_over_workers(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of what all workers give; each has to call this, at the same place.

        Args:
            values: int64 or float32, of the same shape everywhere.
        """
        if self.num_workers == 1:
            return values

        def part(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            is_first = context.replica_id_in_sync_group == self.first
            return tf.constant(values if is_first else np.zeros_like(values))

        total = self._sum(self._strategy.experimental_distribute_values_from_function(part))
        return self._strategy.experimental_local_results(total)[0].numpy()

    def gather(self, value: int) -> list[int]:
        """Returns what each worker gives, in their order; each has to call this."""
        values = np.zeros(self.num_workers, np.int64)
        values[self.worker] = value
        return self.sum_over_workers(values).tolist()

    def _sum_over_replicas(self, values: tf.Tensor) -> tf.Tensor:
        def add(part: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The copy is on the replica's own device, by which the strategy knows whose it is.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(part))

        return self._strategy.run(add, args=(values,))

    def own_rows(self, plan: Plan) -> "OwnRows":
        """Returns `plan` restricted to the rows of this process."""
        return OwnRows(plan, self)

    def distribute(
        self, batch: Mapping[str, np.ndarray], num_rows: int | None = None
    ) -> "ReplicaBatch":
        """Places the rows that this process read, [local · rows, ...], on its replicas.

        Args:
            batch: what the model gets, by name.
            num_rows: rows of the global batch; None where no rows were added to divide it.
        """
        rows = len(next(iter(batch.values()))) // self.local
        num_rows = rows * self.total if num_rows is None else num_rows

        def slice_for(context: tf.distribute.experimental.ValueContext) -> "ReplicaBatch":
            replica = int(context.replica_id_in_sync_group)
            start = (replica - self.first) * rows
            features = {name: tf.constant(x[start : start + rows]) for name, x in batch.items()}
            return ReplicaBatch(
                features, tf.constant(replica * rows, tf.int32), tf.constant(num_rows, tf.int32)
            )

        return self._strategy.experimental_distribute_values_from_function(slice_for)


class ReplicaBatch(NamedTuple):
    """What one replica sees of a global batch."""

    features: dict[str, tf.Tensor]  # [rows, ...]
    row_offset: tf.Tensor  # int32, index in the global batch of the first row
    num_rows: tf.Tensor  # int32, rows of the global batch, without those added to divide it


class OwnRows:
    """A plan whose batches hold the rows of one process only.

    Where the rows of a global batch cannot be divided by the number of replicas, empty rows are
    added at its end. They change no sum.
    """

    def __init__(self, plan: Plan, replicas: Replicas):
        """Restricts `plan` to the rows of `replicas`."""
        self.num_steps = plan.num_steps
        self._plan = plan
        self._replicas = replicas

    def batch(self, step: int) -> tuple[np.ndarray, int]:
        """Returns this process's indices, int64 [local · rows], and the length."""
        indices, length = self._plan.batch(step)
        replicas = self._replicas
        rows = -(-len(indices) // replicas.total)
        indices = np.pad(indices, (0, rows * replicas.total - len(indices)), constant_values=-1)
        start = replicas.first * rows
        return indices[start : start + replicas.local * rows], length
