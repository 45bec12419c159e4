"""Reads the batches of a plan in advance, in a background thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from t2t_vqem.data.batching import BatchPlan

_POLL_SECONDS = 0.1


class Records(Protocol):
    """The part of `RecordReader` that the batch reader needs."""

    def read(self, indices: np.ndarray) -> list[dict[str, np.ndarray]]: ...


# (records with None for empty rows, indices, step, padded length) -> other records
Vary = Callable[
    [list[dict[str, np.ndarray] | None], np.ndarray, int, int], list[dict[str, np.ndarray] | None]
]
MakeBatch = Callable[[list[dict[str, np.ndarray] | None], int], dict[str, np.ndarray]]


class BatchReader:
    """Iterates over (step, batch) and reads the next batches in advance.

    Use it as a context manager.

    Args:
        records: the examples.
        plan: which examples belong to the batch of a step.
        make_batch: converts records (None for an empty row) and a padded length into arrays.
        start_step: the first step.
        num_steps: number of steps; None for all steps of the plan.
        prefetch: number of batches to read in advance.
        vary: changes the records of a batch at random; None: they stay as they are.

    Attributes:
        wait_seconds: how long the consumer has waited for batches so far.
    """

    def __init__(
        self,
        records: Records,
        plan: BatchPlan,
        make_batch: MakeBatch,
        *,
        start_step: int,
        num_steps: int | None = None,
        prefetch: int = 8,
        vary: Vary | None = None,
    ):
        self._records = records
        self._plan = plan
        self._make_batch = make_batch
        self._vary = vary
        self.wait_seconds = 0.0
        end = plan.num_steps
        if num_steps is not None:
            end = start_step + num_steps if end is None else min(end, start_step + num_steps)
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=max(1, prefetch))
        self._stopped = threading.Event()
        self._finished = False
        self._thread = threading.Thread(
            target=self._run, args=(start_step, end), name="batch-reader", daemon=True
        )
        self._thread.start()

    def read(self, step: int) -> dict[str, np.ndarray]:
        """Reads the batch of one step in the caller's thread."""
        indices, length = self._plan.batch(step)
        real = np.flatnonzero(indices >= 0)
        rows: list[dict[str, np.ndarray] | None] = [None] * len(indices)
        for row, record in zip(real, self._records.read(indices[real]), strict=True):
            rows[row] = record
        if self._vary:
            rows = self._vary(rows, indices, step, length)
        return self._make_batch(rows, length)

    def __iter__(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        return self

    def __next__(self) -> tuple[int, dict[str, np.ndarray]]:
        """Returns the next step and its batch.

        Raises:
            StopIteration: no step is left, or the reader was closed.
            Exception: any error of the reading thread.
        """
        if self._finished or self._stopped.is_set():
            raise StopIteration
        started = time.perf_counter()
        item = self._queue.get()
        self.wait_seconds += time.perf_counter() - started
        if isinstance(item, tuple):
            return item
        self._finished = True
        if isinstance(item, BaseException):
            raise item
        raise StopIteration

    def close(self) -> None:
        """Stops the reading thread and waits for it; drops the batches read in advance."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> BatchReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self, step: int, end: int | None) -> None:
        try:
            while end is None or step < end:
                if not self._put((step, self.read(step))):
                    return
                step += 1
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> bool:
        """Puts an item into the queue; returns False if the reader was closed meanwhile."""
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False


class Examples(NamedTuple):
    """The examples of a split, and how batches are made of them."""

    records: Records
    plan: BatchPlan
    make_batch: MakeBatch
    vary: Vary | None = None

    def read(self, start_step: int = 0) -> BatchReader:
        """Returns a reader of the batches from a step on; use it as a context manager."""
        return BatchReader(
            self.records, self.plan, self.make_batch, start_step=start_step, vary=self.vary
        )
