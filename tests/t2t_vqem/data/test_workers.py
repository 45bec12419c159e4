import os
import signal
import subprocess
import sys

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.data.workers import check_parent, default_num_workers, run_tasks
from tests.conftest import wait_until

# A new process could not import this module by name, so what runs there is in a module of its own.
TASKS = """
import os, pathlib, signal, time
from t2t_vqem.constants import UsageError
from t2t_vqem.data.workers import check_parent, run_tasks

def pid(task):
    time.sleep(0.05)
    return task, os.getpid()

class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__("odd")

def fail(task):
    if task == 3:
        raise UsageError("line 3 is bad")
    if task == 13:
        raise Unpicklable(1, 2)
    if task == 23:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)

def forever(folder):
    pathlib.Path(folder, str(os.getpid())).touch()
    while True:
        time.sleep(0.05)
        check_parent()

if __name__ == "__main__":
    import sys
    list(run_tasks(forever, [sys.argv[1]] * 2, 2))
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "tasks_of_test.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("tasks_of_test", None)
    import tasks_of_test

    return tasks_of_test


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_task_gives_its_result(tasks, num_workers):
    results = dict(run_tasks(tasks.pid, list("abcdefg"), num_workers))
    assert [results[number][0] for number in range(7)] == list("abcdefg")
    pids = {pid for _, pid in results.values()}
    assert (os.getpid() in pids) == (num_workers == 1)
    assert len(pids) <= num_workers
    assert num_workers == 1 or len(pids) > 1


def test_no_tasks():
    assert list(run_tasks(len, [], 4)) == []


def test_an_error_of_a_task_is_raised_unchanged(tasks):
    with pytest.raises(UsageError, match="line 3 is bad") as caught:
        list(run_tasks(tasks.fail, range(6), 2))
    assert "in a worker process" in str(caught.value.__cause__)
    assert "tasks_of_test.py" in str(caught.value.__cause__)


def test_an_error_that_cannot_be_pickled_is_raised_by_its_message(tasks):
    with pytest.raises(RuntimeError, match="Unpicklable: odd"):
        list(run_tasks(tasks.fail, range(10, 15), 2))


def test_a_worker_that_dies_is_an_error_not_a_hang(tasks):
    with pytest.raises(RuntimeError, match=r"died with exit code -9 .*--num_workers"):
        list(run_tasks(tasks.fail, range(20, 26), 2))


def test_workers_end_when_their_parent_is_killed(tasks, tmp_path):
    folder = tmp_path / "pids"
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, tasks.__file__, str(folder)])
    wait_until(lambda: len(list(folder.iterdir())) == 2, "two workers", process=parent)
    pids = [int(path.name) for path in folder.iterdir()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), "the workers to end")


def alive(pid: int) -> bool:
    """Returns whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_check_parent_does_not_end_other_processes(monkeypatch):
    monkeypatch.setattr(os, "getppid", lambda: -1)  # as if the parent had ended
    assert check_parent() is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_the_default_number_of_workers_is_that_of_usable_cores():
    allowed = os.sched_getaffinity(0)
    assert default_num_workers() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert default_num_workers() == 1
    finally:
        os.sched_setaffinity(0, allowed)
