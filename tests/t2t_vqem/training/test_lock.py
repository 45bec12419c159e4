"""The lock is real: other processes hold it and are killed."""

import os
import signal
import subprocess
import sys

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.training import lock
from t2t_vqem.training.lock import hold_lock

HOLDER = """
import sys
from t2t_vqem.training.lock import hold_lock
with hold_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_one_is_refused_until_the_first_is_killed(holder, tmp_path):
    message = f"another t2t-trainer .process {holder.pid} on .* is training in {tmp_path}. Stop it"
    with pytest.raises(UsageError, match=message), hold_lock(str(tmp_path)):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with hold_lock(str(tmp_path)):
        assert (tmp_path / lock.LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_free_again_after_an_error(tmp_path):
    folder = str(tmp_path / "new")
    with pytest.raises(KeyError), hold_lock(folder):
        raise KeyError
    refused = pytest.raises(UsageError, match="another t2t-trainer")
    with hold_lock(folder), refused, hold_lock(folder):
        pass


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder = str(tmp_path / "file" / "run")
    refused = pytest.raises(UsageError, match=f"{folder} cannot be written to: Not a dir")
    with refused, hold_lock(folder):
        pass


def test_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(95, "Operation not supported")  # EOPNOTSUPP, as some network folders say

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with hold_lock(str(tmp_path)):
        assert "file system without locks (Operation not supported)" in caplog.text
