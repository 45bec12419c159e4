"""Stops a run cleanly on SIGTERM or SIGINT."""

import signal
import threading
import time
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """A context manager that records SIGTERM and SIGINT and so asks the work to stop.

    Its truth value says whether the work must stop now. A second signal has its usual effect.

    Several workers must all stop at the same step. So a worker that gets a signal does not stop at
    once: each worker adds its `poll` to an all-reduce that is computed anyway, and passes the sum
    to `hear`. All workers see the same sum, and then all stop.

    Attributes:
        name: the signal that this process received, or None.
        polled: time.monotonic() of the last call of `poll`, which shows that work progresses.
    """

    def __init__(self, *, num_workers: int = 1) -> None:
        """Starts without a stop request.

        Args:
            num_workers: number of processes that share the work.
        """
        self.name: str | None = None
        self.polled = time.monotonic()
        self._shared = num_workers > 1
        self._heard = False
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self._heard if self._shared else self.name is not None

    def poll(self) -> int:
        """Returns 1 if this process was asked to stop, else 0."""
        self.polled = time.monotonic()
        return int(self.name is not None)

    def hear(self, wishes: float) -> None:
        """Takes the sum of `poll` over all workers. All workers must call it at the same step."""
        self._heard = self._heard or bool(wishes > 0)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # required by signal.signal
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class StoppedError(Exception):
    """Work was cancelled because a stop was requested."""
