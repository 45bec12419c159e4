"""The queue of rows for a model: batching by length, and fair sharing between requests.

No row waits for a batch to fill: a row that arrives while an interpreter is idle is computed at
once, alone. Rows that arrive while all interpreters are busy wait. The next free interpreter takes
waiting rows of similar length as one batch.

A request of many rows does not delay later requests: rows are taken in the order of their tags, as
in start-time fair queuing. The tag of the i-th row of a request is i plus the tag of the last row
that was taken before the request arrived.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from t2t_vqem.server.limits import RequestError

# The rows of a batch are at most this much longer than the shortest one, because padding costs as
# much as text.
_LENGTH_RATIO = 1.25
_LENGTH_SLACK = 4  # tokens


class _Row(NamedTuple):
    tag: int
    number: int  # counts all rows in the order of their arrival
    length: int
    kind: Hashable
    payload: Any
    result: asyncio.Future
    arrival: float


class BatchQueue:
    """Computes rows on several interpreters of one model, one thread each.

    Attributes:
        sizes: called with the number of rows of each batch.
        waits: called with the waiting time, in seconds, of the first row of each batch.
    """

    def __init__(
        self,
        compute: Callable[[int, Hashable, list[Any]], Sequence[Any]],
        *,
        workers: int,
        batch_rows: int,
        batch_length: int,
        queue_rows: int,
        sizes: Callable[[float], None] = lambda size: None,
        waits: Callable[[float], None] = lambda seconds: None,
    ):
        """Starts the threads.

        Args:
            compute: takes the number of a worker, the kind of the rows and their payloads; returns
                one result for each row, or an exception as the result of a row that fails. It is
                called in threads, one call at a time for each worker.
            workers: number of interpreters.
            batch_rows: the largest number of rows in a call.
            batch_length: the largest number of rows in a call times the length of the longest one.
                A longer row is computed alone. It limits the memory and the time of a call.
            queue_rows: the largest number of waiting rows.
            sizes: see above.
            waits: see above.
        """
        self.sizes, self.waits = sizes, waits
        self._compute = compute
        self._batch_rows, self._batch_length = batch_rows, batch_length
        self._queue_rows = queue_rows
        self._idle = list(range(workers))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="model")
        self._rows: list[_Row] = []  # sorted by tag and number
        self._numbers = itertools.count()
        self._tag = 0

    def __len__(self) -> int:
        """Returns the number of waiting rows."""
        return len(self._rows)

    def close(self) -> None:
        """Stops the threads after they finish their batches."""
        self._pool.shutdown()

    async def run(
        self, kind: Hashable, payloads: Sequence[Any], lengths: Sequence[int]
    ) -> list[Any]:
        """Returns the results of a request's rows, in their order.

        Args:
            kind: rows of the same kind can be computed in one batch.
            payloads: the rows.
            lengths: the lengths that determine the time of rows, such as numbers of tokens.

        Raises:
            RequestError: 429, too many rows are waiting.
        """
        waiting = len(self._rows)
        if payloads and waiting + len(payloads) > self._queue_rows:
            raise RequestError(
                429,
                f"{waiting} texts or images are waiting for this model, and its queue is limited "
                f"to {self._queue_rows}: send these {len(payloads)} again later.",
                {"Retry-After": "1"},
            )
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        rows = [
            _Row(
                self._tag + i, next(self._numbers), length, kind, payload, loop.create_future(), now
            )
            for i, (payload, length) in enumerate(zip(payloads, lengths, strict=True), 1)
        ]
        for row in rows:
            bisect.insort(self._rows, row, key=_order)
        self._start()
        try:
            return await asyncio.gather(*(row.result for row in rows))
        finally:  # after an error, or if the client is gone, waiting rows are not needed
            for row in rows:
                row.result.cancel()
            self._drop_cancelled(rows)

    def _drop_cancelled(self, rows: Sequence[_Row]) -> None:
        if self._rows and any(row.result.cancelled() for row in rows):
            self._rows = [row for row in self._rows if not row.result.cancelled()]

    def _start(self) -> None:
        """Starts batches on idle workers."""
        loop = asyncio.get_running_loop()
        while self._idle and self._rows:
            batch = self._take()
            worker = self._idle.pop()
            self.sizes(len(batch))
            self.waits(time.monotonic() - batch[0].arrival)
            payloads = [row.payload for row in batch]
            work = loop.run_in_executor(self._pool, self._compute, worker, batch[0].kind, payloads)
            work.add_done_callback(
                lambda work, worker=worker, batch=batch: self._end(work, worker, batch)
            )

    def _take(self) -> list[_Row]:
        """Removes and returns the next row, with other rows that can join its batch."""
        first = self._rows[0]
        fitting = [row for row in self._rows if row.kind == first.kind]
        batch = [first]
        shortest = longest = first.length
        for row in fitting[1:]:
            if len(batch) == self._batch_rows:
                break
            low, high = min(shortest, row.length), max(longest, row.length)
            fits = (len(batch) + 1) * high <= self._batch_length
            if fits and high <= low * _LENGTH_RATIO + _LENGTH_SLACK:
                batch.append(row)
                shortest, longest = low, high
        taken = {row.number for row in batch}
        self._rows = [row for row in self._rows if row.number not in taken]
        self._tag = max(self._tag, first.tag)
        return batch

    def _end(self, work: asyncio.Future, worker: int, batch: list[_Row]) -> None:
        self._idle.append(worker)
        error = work.exception()
        results = [error] * len(batch) if error is not None else work.result()
        for row, result in zip(batch, results, strict=True):
            if row.result.done():  # cancelled, because the client is gone
                continue
            if isinstance(result, BaseException):
                row.result.set_exception(result)
            else:
                row.result.set_result(result)
        self._start()


def _order(row: _Row) -> tuple[int, int]:
    return row.tag, row.number
