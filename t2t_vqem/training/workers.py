"""Workers start from the same state, and all of them stop when one is lost or stuck.

TensorFlow detects a worker that died or whose host is gone: its connections break at once, or its
heartbeats are missing for a minute. Then the all-reduces that the other workers wait for fail.
TensorFlow does not detect a worker that is alive but stuck, for example on a file system that does
not respond; `stuck_worker_ended` does.
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

STUCK_SECONDS = 1800.0  # PyTorch's default timeout; compiling and saving take minutes at most
_STUCK_STATUS = 70  # EX_SOFTWARE of sysexits.h
_logger = logging.getLogger(__name__)

# Errors that an all-reduce over the workers raises after one of them is lost.
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
    """Replaces the errors that follow the loss of a worker by a `UsageError` that explains them."""
    try:
        yield
    except _LOST as error:
        if replicas.num_workers == 1:
            raise
        lines = [x.strip() for x in error.message.splitlines() if "aborted by" in x or "task:" in x]
        latest = latest_checkpoint(output_dir.join(CHECKPOINTS))
        raise UsageError(
            f"worker {replicas.worker} of {replicas.num_workers} stops because another worker is "
            f"lost: {'; '.join(lines) or error.message}\nThe log of the worker that ended first "
            f"says why. Start all workers again with the same command: training continues "
            f"{f'from {latest}' if latest else 'from the beginning, since nothing was saved yet'}"
        ) from error


def check_same_start(
    replicas: Replicas, output_dir: OutputDir, settings: RunSettings, start: int
) -> None:
    """Checks that all workers start the same run at the same step.

    Raises:
        UsageError: they do not. It is raised on all workers.
    """
    starts = replicas.gather(start)
    if len(set(starts)) > 1:
        found = ", ".join(f"worker {worker} at step {step}" for worker, step in enumerate(starts))
        raise UsageError(
            f"the workers found checkpoints of different steps in {output_dir.path}: {found}. "
            f"--output_dir must be a folder that all hosts share"
        )
    described = {**settings.flags(), "hparams": to_json(settings.hparams)}
    described = {name: value for name, value in described.items() if not name.endswith("_dir")}
    checksums = replicas.gather(zlib.crc32(json.dumps(described, sort_keys=True).encode()))
    if len(set(checksums)) > 1:
        others = [str(w) for w, value in enumerate(checksums) if value != checksums[0]]
        raise UsageError(
            f"worker {', '.join(others)} was started with other settings than worker 0. Start all "
            f"workers with the same flags, data, seed and versions of Python and the packages. "
            f"Settings of this worker: {json.dumps(described, sort_keys=True)}"
        )


def copy_from_chief(replicas: Replicas, state: TrainState) -> None:
    """Copies the chief's model variables to every worker.

    What a worker computes by itself may differ in the last bits between processors, and K-means can
    turn such a difference into different codes.
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
    """Ends this process with a message if a run of several workers makes no progress.

    A thread watches for it, because the main thread waits inside TensorFlow. Progress means a call
    of `stop.poll`, which happens for every batch.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if time.monotonic() - stop.polled > STUCK_SECONDS:
                _logger.error(
                    "worker %d of %d stops: no batch was processed for %.0f seconds. The worker "
                    "whose log ends first is stuck. Make sure that all workers have ended, then "
                    "start all again with the same command: training continues from the last "
                    "checkpoint",
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
