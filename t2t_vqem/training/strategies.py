"""Distribution strategies, and the division of each global batch among the replicas.

A replica gets a contiguous slice of the rows of each global batch, and the index of its first row
in the global batch. Random numbers depend on that index, so the sum over all replicas does not
depend on their number.
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
# A worker counts as lost after this time without a heartbeat. It leaves enough time for a live
# migration of a virtual machine.
HEARTBEAT_SECONDS = 60.0
_logger = logging.getLogger(__name__)


def make_strategy(name: str = AUTO, devices: Sequence[str] = ()) -> tf.distribute.Strategy:
    """Makes a distribution strategy.

    Args:
      name: one of `STRATEGIES`. "auto" is multi_worker if TF_CONFIG is set, otherwise mirrored if
        there are several devices, otherwise one_device.
      devices: devices for one_device and mirrored, such as "gpu:0" or "cpu:1". If empty, all GPUs,
        or the CPU if there is no GPU. "cpu:1" and higher are created as logical devices: they do
        not speed anything up, but let a run with several replicas be tested on one processor.

    Raises:
      UsageError: the name is unknown, a device does not exist, the strategy does not take these
        devices, or the other workers cannot be reached.
    """
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}. Expected one of: {', '.join(STRATEGIES)}")
    if devices and name in ("multi_worker", "tpu"):
        raise UsageError(
            f"--devices={','.join(devices)} has no effect with --strategy={name}: omit it"
        )
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
            raise UsageError(f"no device {device!r}. Expected one of: {', '.join(existing)}")
    devices = devices or [device for device in existing if device.startswith("gpu")] or ["cpu:0"]
    if name == "mirrored" or (name == AUTO and len(devices) > 1):
        return _mirrored_strategy(tuple(devices))
    return tf.distribute.OneDeviceStrategy(devices[0])


@functools.cache
def _mirrored_strategy(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # All runs of a process share one strategy: TensorFlow numbers the collectives of every strategy
    # from the same start, so those of a second strategy would be mistaken for those of the first.
    return tf.distribute.MirroredStrategy(devices)


@functools.cache  # all runs of a process share one, as above
def _multi_worker_strategy(workers: Workers) -> tf.distribute.Strategy:
    """Connects to the other workers; returns as soon as all have started."""
    context = tensorflow_context.context()
    if context.coordination_service is None:
        # TensorFlow's default is ten seconds, and it has no public option for this.
        context.configure_coordination_service = functools.partial(
            context.configure_coordination_service,
            heartbeat_timeout_in_ms=round(1000 * HEARTBEAT_SECONDS),
        )
    _logger.info("%s: waiting for all workers to start", workers)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise UsageError(
            f"{workers} cannot connect to the other workers: {error.message}. Each address in "
            f"TF_CONFIG must be free on its own host and reachable from all other hosts, and all "
            f"workers must be started"
        ) from error


def _short_name(device: str) -> str:
    return ":".join(device.lower().split(":")[-2:])


def _create_logical_cpus(devices: Sequence[str]) -> None:
    """Creates as many logical CPU devices as `devices` needs."""
    indices = [device.removeprefix("cpu:") for device in devices if device.startswith("cpu:")]
    number = max((int(index) + 1 for index in indices if index.isdigit()), default=0)
    cpu = tf.config.list_physical_devices("CPU")[0]
    if number > max(1, len(tf.config.get_logical_device_configuration(cpu) or ())):
        try:
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * number
            )
        except RuntimeError as error:  # TensorFlow has initialised its devices already
            raise UsageError(f"cannot create {number} logical CPU devices: {error}") from error


class Plan(Protocol):
    """The sequence of batches, each a list of example indices."""

    num_steps: int | None  # None if the sequence is endless

    def batch(self, step: int) -> tuple[np.ndarray, int]:
        """Returns example indices, int64 [rows] with -1 for an empty row, and the padded length."""


class Replicas:
    """The replicas of this process among all replicas of the run.

    Each worker is a process, and all have the same number of replicas. Worker 0 is the chief. If
    one worker learns something that all must act upon, it shares it in a sum that all workers
    compute; otherwise some workers would wait for the others forever.

    Attributes:
        total: number of replicas in the run.
        local: number of replicas in this worker.
        first: index of this worker's first replica.
        num_workers: number of processes in the run.
        worker: index of this process.
        is_chief: whether this process writes the output directory.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        """Finds out which replicas of the strategy this process has."""
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
        """Returns the sum of `values` over all workers. All workers must call it in the same order.

        Args:
            values: int64 or float32, of the same shape on each worker.
        """
        if self.num_workers == 1:
            return values

        def part(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            is_first = context.replica_id_in_sync_group == self.first
            return tf.constant(values if is_first else np.zeros_like(values))

        total = self._sum(self._strategy.experimental_distribute_values_from_function(part))
        return self._strategy.experimental_local_results(total)[0].numpy()

    def gather(self, value: int) -> list[int]:
        """Returns the values of all workers, in the order of workers. All must call it."""
        values = np.zeros(self.num_workers, np.int64)
        values[self.worker] = value
        return self.sum_over_workers(values).tolist()

    def _sum_over_replicas(self, values: tf.Tensor) -> tf.Tensor:
        def add(part: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The copy is on the replica's own device: the strategy identifies the replica by it.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(part))

        return self._strategy.run(add, args=(values,))

    def own_rows(self, plan: Plan) -> "OwnRows":
        """Returns `plan` restricted to the rows of this process."""
        return OwnRows(plan, self)

    def distribute(
        self, batch: Mapping[str, np.ndarray], num_rows: int | None = None
    ) -> "ReplicaBatch":
        """Distributes the rows that this process read among its replicas.

        Args:
            batch: the model's features by name, [local · rows, ...].
            num_rows: number of rows in the global batch without the empty rows that `OwnRows`
                appends; None if it appended none.
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
    """One replica's slice of a global batch."""

    features: dict[str, tf.Tensor]  # [rows, ...]
    row_offset: tf.Tensor  # int32, index of the first row in the global batch
    num_rows: tf.Tensor  # int32, rows of the global batch, without the appended empty rows


class OwnRows:
    """A plan whose batches contain only the rows of one process.

    If the number of rows of a global batch is not a multiple of the number of replicas, empty rows
    are appended to it. They contribute nothing to any sum.
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
