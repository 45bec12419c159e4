"""What the workers of a run owe each other: the same start, and an end when one of them is lost.

A worker that dies or whose host is gone is noticed by TensorFlow: its connections break at once, or
its heartbeats stay away for a minute. Then the sums that the others wait for fail. A worker
that is alive but stuck, as on a file system that does not answer, is noticed by nobody else.
"""

import contextlib
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from t2t_vqem.config import to_json
from t2t_vqem.constants import UsageError
from t2t_vqem.output_dir import CHECKPOINTS, OutputDir, RunSettings, latest_checkpoint
from t2t_vqem.training.signals import StopRequest
from t2t_vqem.training.state import TrainState, raw
from t2t_vqem.training.strategies import Replicas

STUCK_SECONDS = 1800.0  # as long as PyTorch waits; compiling and saving take minutes at most
_STUCK_STATUS = 70  # EX_SOFTWARE of sysexits.h
_logger = logging.getLogger(__name__)

# What a sum over the workers fails with when one of them is not there any more.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


@contextlib.contextmanager
def lost_worker_explained(replicas: Replicas, output_dir: OutputDir) -> Iterator[None]:
    """Turns the errors of a sum over several workers into one that says what to do."""
    try:
        yield
    except _LOST as error:
        if replicas.num_workers == 1:
            raise
        lines = [x.strip() for x in error.message.splitlines() if "aborted by" in x or "task:" in x]
        latest = latest_checkpoint(output_dir.join(CHECKPOINTS))
        raise UsageError(
            f"worker {replicas.worker} of {replicas.num_workers} stops, because another one is "
            f"lost: {'; '.join(lines) or error.message}\nThe log of the worker that ended first "
            f"says why. Start all workers again with the same command: the run goes on "
            f"{f'from {latest}' if latest else 'from the beginning, nothing was saved yet'}"
        ) from error


def check_same_start(
    replicas: Replicas, output_dir: OutputDir, settings: RunSettings, start: int
) -> None:
    """Checks that all workers begin the same run at the same step.

    Raises:
        UsageError: they do not; on all workers.
    """
    starts = replicas.gather(start)
    if len(set(starts)) > 1:
        raise UsageError(
            f"the workers found checkpoints of different steps in {output_dir.path}: "
            f"{', '.join(f'worker {worker} {step}' for worker, step in enumerate(starts))}. "
            f"--output_dir has to be a folder that all hosts share"
        )
    described = {**settings.flags(), "hparams": to_json(settings.hparams)}
    described = {name: value for name, value in described.items() if not name.endswith("_dir")}
    checksums = replicas.gather(zlib.crc32(json.dumps(described, sort_keys=True).encode()))
    if len(set(checksums)) > 1:
        others = [str(w) for w, value in enumerate(checksums) if value != checksums[0]]
        raise UsageError(
            f"worker {', '.join(others)} was started with other settings than worker 0. Start all "
            f"with the same flags, data, seed and versions of Python and the packages; this one "
            f"has {json.dumps(described, sort_keys=True)}"
        )


def copy_from_chief(replicas: Replicas, state: TrainState) -> None:
    """Gives the model of every worker the chief's values.

    What a worker computes by itself may differ in its last bits on another processor, and K-means
    may turn that into other codes.
    """
    if replicas.num_workers == 1:
        return
    models = [state.model] if state.averaged is None else [state.model, state.averaged]
    variables = raw([variable for model in models for variable in model.variables])
    flat = np.concatenate([variable.numpy().ravel() for variable in variables])
    flat = replicas.sum_over_workers(flat if replicas.is_chief else np.zeros_like(flat))
    ends = np.cumsum([variable.shape.num_elements() for variable in variables])
    for variable, values in zip(variables, np.split(flat, ends[:-1]), strict=True):
        variable.assign(values.reshape(variable.shape).astype(variable.dtype.as_numpy_dtype))


@contextlib.contextmanager
def stuck_worker_ended(replicas: Replicas, stop: StopRequest) -> Iterator[None]:
    """Ends this process with a message when several workers have not gone on for long.

    A thread does it, as the main thread waits inside of TensorFlow. Every batch polls `stop`.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if time.monotonic() - stop.polled > STUCK_SECONDS:
                _logger.error(
                    "worker %d of %d stops: there was no batch for %.0f seconds. A worker is "
                    "stuck, the one whose log ends first. See to it that all have ended, and start "
                    "all again with the same command: the run goes on from its last checkpoint",
                    replicas.worker,
                    replicas.num_workers,
                    STUCK_SECONDS,
                )
                os._exit(_STUCK_STATUS)

    thread = threading.Thread(target=watch, name="stuck-watch", daemon=True)
    if replicas.num_workers > 1:
        thread.start()
    try:
        yield
    finally:
        over.set()
