"""LiteRT interpreters of a model file, for several threads of the caller."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from t2t_vqem.constants import UsageError
from t2t_vqem.runtime._quiet import hide_announcement
from t2t_vqem.runtime.model_file import only

# Size of a model file in bytes above which several threads make an operation faster. Below it,
# waking them takes as long as they save.
_LARGE = 24 * 2**20
_MAX_THREADS = 4


class Backend(Protocol):
    """Computes the functions of an exported model."""

    @property
    def concurrency(self) -> int:
        """Number of calls that can run at the same time."""

    def inputs(self, signature: str) -> Sequence[str] | None:
        """Returns the names of a function's inputs; None if the model has no such function."""

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a function."""


class Interpreters:
    """`Backend` with a limited number of interpreters, each made when it is first needed."""

    def __init__(self, path: str, *, threads: int | None = None, interpreters: int | None = None):
        """Loads the model file once, so that a damaged file raises its error here.

        Args:
            path: path of the model file.
            threads: number of threads of an operation; None: chosen by the size of the file.
            interpreters: number of interpreters that run at the same time; None: as many as the
                cores allow.

        Raises:
            UsageError: a number is below 1, or the file is not a model for LiteRT.
        """
        for name, value in (("threads", threads), ("interpreters", interpreters)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        cores = num_cores()
        if threads is None:
            threads = min(cores, _MAX_THREADS) if os.path.getsize(path) >= _LARGE else 1
        self._path, self._threads = path, threads
        self._limit = interpreters or max(1, cores // threads)
        hide_announcement()
        self._signatures = self._interpreter(path=path).get_signature_list()
        # Open, because another file may replace it before a function is called for the first time.
        self._file = open(path, "rb")  # noqa: SIM115
        self._contents: dict[str, bytes] = {}
        self._idle: queue.LifoQueue[_Runners] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._made = 0

    def _interpreter(self, *, path: str | None = None, content: bytes | None = None) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            return Interpreter(model_path=path, model_content=content, num_threads=self._threads)
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"{self._path} is not a model for LiteRT: {error}") from error

    def _runner(self, signature: str) -> Any:
        """Makes an interpreter of one function; all of them share the content of its file."""
        with self._lock:
            if signature not in self._contents:
                self._file.seek(0)
                self._contents[signature] = only(self._file.read(), signature)
        interpreter = self._interpreter(content=self._contents[signature])
        return interpreter.get_signature_runner(signature)

    @property
    def concurrency(self) -> int:
        """Number of interpreters that can run at the same time."""
        return self._limit

    def inputs(self, signature: str) -> Sequence[str] | None:
        """See `Backend`."""
        found = self._signatures.get(signature)
        return None if found is None else found["inputs"]

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend`; waits for an interpreter if all are busy."""
        runners = self._take()
        try:
            return runners.call(signature, inputs)
        finally:
            self._idle.put(runners)

    def _take(self) -> _Runners:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        with self._lock:
            may_make = self._made < self._limit
            self._made += may_make
        return _Runners(self._runner) if may_make else self._idle.get()


class _Runners:
    """Interpreters of the functions of a model, for one thread at a time."""

    def __init__(self, make: Callable[[str], Any]):
        """Stores what makes the interpreter of a function when it is first called."""
        self._make = make
        self._runners: dict[str, Any] = {}

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if signature not in self._runners:
            self._runners[signature] = self._make(signature)
        return self._runners[signature](**inputs)


def num_cores() -> int:
    """Returns the number of cores that this process can use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
