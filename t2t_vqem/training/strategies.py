"""Where a run computes, and which rows of a global batch each replica gets.

A replica gets a contiguous slice of the rows of each global batch, and knows the index of its first
row, which its randomness depends on. So the sum over the replicas does not depend on their number.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import UsageError

AUTO = "auto"
STRATEGIES = (AUTO, "one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(name: str = AUTO, devices: Sequence[str] = ()) -> tf.distribute.Strategy:
    """Makes a distribution strategy.

    Args:
      name: one of `STRATEGIES`. "auto" is multi_worker where TF_CONFIG is set, else mirrored on
        several devices, else one_device.
      devices: "gpu:0" or "cpu:1", for one_device and mirrored; if empty, all GPUs, or else the CPU.
        Processors after "cpu:0" are created: they make nothing faster, but they show that a run
        does not depend on the number of replicas.

    Raises:
      UsageError: the name is unknown, a device does not exist, or devices and name do not fit.
    """
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}. There is: {', '.join(STRATEGIES)}")
    if devices and name in ("multi_worker", "tpu"):
        raise UsageError(f"--devices says nothing to --strategy={name}: leave it out")
    if name == "tpu":
        return tf.distribute.TPUStrategy(
            tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        )
    if name == "multi_worker" or (name == AUTO and not devices and "TF_CONFIG" in os.environ):
        return tf.distribute.MultiWorkerMirroredStrategy()
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
    """The replicas of this process among all replicas of the run."""

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

    def own_rows(self, plan: Plan) -> "OwnRows":
        """Returns `plan` restricted to the rows of this process."""
        return OwnRows(plan, self)

    def distribute(self, batch: Mapping[str, np.ndarray]) -> "ReplicaBatch":
        """Places the rows that this process read, [local · rows, ...], on its replicas."""
        rows = len(next(iter(batch.values()))) // self.local

        def slice_for(context: tf.distribute.experimental.ValueContext) -> "ReplicaBatch":
            replica = int(context.replica_id_in_sync_group)
            start = (replica - self.first) * rows
            features = {name: tf.constant(x[start : start + rows]) for name, x in batch.items()}
            return ReplicaBatch(features, tf.constant(replica * rows, tf.int32))

        return self._strategy.experimental_distribute_values_from_function(slice_for)


class ReplicaBatch(NamedTuple):
    """What one replica sees of a global batch."""

    features: dict[str, tf.Tensor]  # [rows, ...]
    row_offset: tf.Tensor  # int32, index in the global batch of the first row


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
