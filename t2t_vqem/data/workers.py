"""Runs tasks in worker processes that end when their parent process ends.

The differences to the pools of multiprocessing: A worker has no handle of another worker's pipe, so
when the parent is killed, each worker sees its own pipe close and exits instead of waiting forever.
A worker that dies is an error, not a hang. At most one task per worker is in progress.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from t2t_vqem.data.progress import Progress

_parent: int | None = None  # in a worker, the id of the process that started it


def default_num_workers() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_parts(
    function: Callable[[Any], Any],
    parts: Sequence[Any],
    size: Callable[[Any], int],
    num_workers: int,
    bar: Progress,
) -> None:
    """Runs `function`, as `run_tasks` does, on every part whose file `result` does not exist yet.

    Args:
        function: see `run_tasks`; writes the file `result` of its part.
        parts: the parts, including finished ones.
        size: number of items in a part.
        num_workers: the largest number of processes.
        bar: counts the items of all parts.
    """
    open_parts = [part for part in parts if not os.path.exists(part.result)]
    bar.advance(sum(map(size, parts)) - sum(map(size, open_parts)), skipped=True)
    for number, _ in run_tasks(function, open_parts, num_workers):
        bar.advance(size(open_parts[number]))


def run_tasks(
    function: Callable[[Any], Any], tasks: Sequence[Any], num_workers: int
) -> Iterator[tuple[int, Any]]:
    """Runs `function` on every task and yields (index of the task, result) as tasks finish.

    If only one worker is needed, the tasks run in this process.

    Args:
        function: a function at the top level of a module, so that a new process can import it.
        tasks: its arguments; any objects that can be pickled.
        num_workers: the largest number of processes.

    Raises:
        Exception: the first exception of a task. The other tasks are stopped.
        RuntimeError: a worker died.
    """
    num_workers = min(num_workers, len(tasks))
    if num_workers <= 1:
        for number, task in enumerate(tasks):
            yield number, function(task)
        return
    # spawn, because a fork of a process with threads (such as TensorFlow's) can hang.
    context = multiprocessing.get_context("spawn")
    workers = {}
    try:
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, function, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            workers[ours] = process
        yield from _distribute(workers, tasks)
    finally:
        for pipe, process in workers.items():
            pipe.close()
            process.terminate()
        for process in workers.values():
            process.join()


def _distribute(workers: dict[Any, Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    waiting = deque(enumerate(tasks))
    running = {}
    for pipe in workers:
        running[pipe] = _hand_out(pipe, waiting)
    while running:
        for pipe in multiprocessing.connection.wait(list(running)):
            try:
                result, error, trace = pipe.recv()
            except EOFError:
                workers[pipe].join()
                raise RuntimeError(
                    f"a worker process died with exit code {workers[pipe].exitcode} "
                    f"(-9: killed, often because memory ran out). Try a smaller --num_workers."
                ) from None
            if error is not None:
                raise error from RuntimeError(f"in a worker process:\n{trace}")
            yield running.pop(pipe), result
            if waiting:
                running[pipe] = _hand_out(pipe, waiting)


def _hand_out(pipe: Any, waiting: deque[tuple[int, Any]]) -> int:
    number, task = waiting.popleft()
    pipe.send(task)
    return number


def check_parent() -> None:
    """Ends this worker if its parent process has ended. Long tasks call it regularly."""
    if _parent is not None and os.getppid() != _parent:
        os._exit(1)


def _work(pipe: Any, function: Callable[[Any], Any], parent: int) -> None:
    global _parent
    _parent = parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent also gets it, and ends its workers
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            message = (function(task), None, "")
        except Exception as error:
            message = (None, _picklable(error), traceback.format_exc())
        try:
            pipe.send(message)
        except OSError:
            return  # the parent has ended


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
