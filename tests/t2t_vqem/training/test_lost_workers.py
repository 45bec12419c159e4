"""Workers that are stopped, killed or stuck: the others end, and the run can be continued."""

import os
import signal
import threading
import time

import pytest
import tensorflow as tf

from t2t_vqem.training import trainer, workers
from t2t_vqem.training.signals import StopRequest
from tests.conftest import wait_until

MODEL = "transformer"


@pytest.fixture
def model():
    """One model suffices, because losing workers does not depend on it."""
    return MODEL


def latest(folder):
    return tf.train.latest_checkpoint(str(folder / MODEL / "checkpoints"))


@pytest.mark.slow
def test_stopped_then_killed_then_done(start_workers, tiny_options, tmp_path, assert_same_numbers):
    """SIGTERM to one worker, then kill -9 of the chief, then the rest on one device."""
    options = tiny_options(
        MODEL, tmp_path / MODEL, schedule="train", train_steps=10**6, save_checkpoints_steps=50
    )
    started = start_workers(2, runs=[options])
    started.wait_for(tmp_path / MODEL / "checkpoints" / "checkpoint")
    started.processes[1].send_signal(signal.SIGTERM)
    (one,), (other,) = started.results()
    assert one["step"] == other["step"] > 50
    assert one["stopped"] and other["stopped"]
    assert "stopped by a signal to another worker; the same command continues" in started.log(0)
    assert "stopped by SIGTERM; the same command continues" in started.log(1)
    assert latest(tmp_path).endswith(f"ckpt-{one['step']}")

    started = start_workers(2, runs=[options])
    # When the second checkpoint exists, the first has been recorded as the last one.
    second = tmp_path / MODEL / "checkpoints" / f"ckpt-{(one['step'] // 50 + 2) * 50}.index"
    started.wait_for(second)
    os.kill(started.processes[0].pid, signal.SIGKILL)
    started.processes[1].wait(600)
    assert "worker 1 of 2 stops because another worker is lost" in started.result(1)[0]["error"]
    assert "task:0" in started.result(1)[0]["error"]
    last = int(latest(tmp_path).rpartition("-")[2])
    assert last >= (one["step"] // 50 + 1) * 50
    assert f"training continues from {latest(tmp_path)}" in started.result(1)[0]["error"]

    alone = tiny_options(MODEL, tmp_path / "alone" / MODEL, schedule="train", devices=["cpu:0"])
    for request in (options, alone):
        request |= {"train_steps": last + 2, "save_checkpoints_steps": 1000, "devices": ["cpu:0"]}
        trainer.run(trainer.Request(**request))
    assert_same_numbers(tmp_path, tmp_path / "alone", last + 2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["asleep", "silent"])
def test_stuck_worker(how, start_workers, tiny_options, tmp_path):
    """A worker that hangs while its process is alive, and one whose process is stopped."""
    options = tiny_options(
        MODEL, tmp_path / MODEL, schedule="train", train_steps=10**6, save_checkpoints_steps=2
    )
    plan = {"stuck": [1, 3, 8]} if how == "asleep" else {"heartbeat_seconds": 20}
    started = start_workers(2, runs=[options], **plan)
    started.wait_for(tmp_path / MODEL / "checkpoints" / "checkpoint")
    if how == "silent":
        os.kill(started.processes[1].pid, signal.SIGSTOP)
    began = time.monotonic()
    status = started.processes[0].wait(600)
    if how == "asleep":
        assert status == 70
        assert "worker 0 of 2 stops: no batch was processed for 8 seconds" in started.log(0)
        assert started.processes[1].wait(600) == 70
    else:
        assert "stopped sending heartbeats" in started.log(0)
        assert "worker 0 of 2 stops because another worker is lost" in started.result(0)[0]["error"]
    assert time.monotonic() - began < 300


class Alone:
    num_workers = 1
    worker = 0


class Two(Alone):
    num_workers = 2


def test_errors_of_a_single_worker_are_not_replaced(tmp_path):
    error = tf.errors.AbortedError(None, None, "something else")
    raised = pytest.raises(tf.errors.AbortedError, match="something else")
    with raised, workers.lost_worker_explained(Alone(), None):
        raise error


@pytest.mark.parametrize(("replicas", "watched"), [(Alone(), False), (Two(), True)])
def test_a_single_worker_is_not_watched(replicas, watched):
    def watching():
        return any(thread.name == "stuck-watch" for thread in threading.enumerate())

    assert not watching()
    with workers.stuck_worker_ended(replicas, StopRequest()):
        assert watching() == watched
    wait_until(lambda: not watching(), "the watch to end")
