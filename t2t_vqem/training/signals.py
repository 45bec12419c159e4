"""Ends a run in good order when the system or the user asks for it."""

import signal
import threading
import time
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Notes SIGTERM and SIGINT while it is open. A second signal acts as it would without this.

    It is true when the work has to stop. Where several workers share the work, that is not yet when
    one of them gets a signal, but when all know: each puts what it finds by `poll` into a sum that
    they compute anyway and shows the total to `hear`, so that all stop at the same place.

    Attributes:
        name: the signal that came to this process, None so far.
        polled: when it was last asked for, by time.monotonic(): a sign that the work goes on.
    """

    def __init__(self, *, num_workers: int = 1) -> None:
        """Notes nothing yet."""
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
        """Takes the sum of what all workers polled, which they take at the same place."""
        self._heard = self._heard or bool(wishes > 0)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python allows no other
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
    """Work that was given up because a stop was requested."""
