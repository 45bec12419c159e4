import threading
import time

import numpy as np
import pytest

from t2t_vqem.data.batching import BatchPlan
from t2t_vqem.data.reader import BatchReader


class Numbers:
    """Records whose content is their own number; reading number `broken` fails."""

    def __init__(self, broken: int | None = None):
        self.broken = broken
        self.num_read = 0

    def read(self, indices):
        self.num_read += len(indices)
        if self.broken in indices:
            raise OSError(f"cannot read {self.broken}")
        return [{"number": np.array(index)} for index in indices]


def make_batch(records, length):
    numbers = [-1 if record is None else int(record["number"]) for record in records]
    return {"numbers": np.array(numbers), "length": np.array(length)}


@pytest.fixture
def plan() -> BatchPlan:
    lengths = np.arange(23) % 9 + 1
    return BatchPlan(lengths, batch_size=24, max_length=12, num_buckets=3, seed=5)


def test_yields_the_batches_of_the_plan_in_order(plan):
    with BatchReader(Numbers(), plan, make_batch, start_step=4, num_steps=20) as reader:
        steps = list(reader)
    assert [step for step, _ in steps] == list(range(4, 24))
    for step, batch in steps:
        indices, length = plan.batch(step)
        np.testing.assert_array_equal(batch["numbers"], indices)
        assert batch["length"] == length


def test_ends_with_the_plan():
    plan = BatchPlan(np.ones(5), batch_size=4, max_length=4, num_buckets=1, seed=0, epochs=2)
    with BatchReader(Numbers(), plan, make_batch, start_step=3) as reader:
        assert [step for step, _ in reader] == list(range(3, 10))
        with pytest.raises(StopIteration):
            next(reader)
    with BatchReader(Numbers(), plan, make_batch, start_step=3, num_steps=99) as reader:
        assert len(list(reader)) == 7


def test_an_error_reaches_the_consumer_after_the_batches_before_it(plan):
    bad_step = next(step for step in range(3, 99) if 7 in plan.batch(step).indices)
    reader = BatchReader(Numbers(broken=7), plan, make_batch, start_step=bad_step - 2)
    good = [step for step in range(bad_step - 2, bad_step) if 7 not in plan.batch(step).indices]
    for step in good:
        assert next(reader)[0] == step
    with pytest.raises(OSError, match="cannot read 7"):
        next(reader)
    with pytest.raises(StopIteration):
        next(reader)
    reader.close()


def test_reads_no_further_ahead_than_prefetch(plan):
    numbers = Numbers()
    reader = BatchReader(numbers, plan, make_batch, start_step=0, prefetch=2)
    deadline = time.monotonic() + 5
    most = 4 * max(rows for rows, _ in plan.shapes)  # 2 ready, 1 waiting, 1 being read
    while numbers.num_read < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert 0 < numbers.num_read <= most
    reader.close()


def test_close_ends_the_thread_and_the_iteration(plan):
    before = threading.active_count()
    reader = BatchReader(Numbers(), plan, make_batch, start_step=0)
    next(reader)
    reader.close()
    reader.close()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(reader)


def test_counts_how_long_the_consumer_waits(plan):
    release = threading.Event()

    def slow(records, length):
        release.wait(5)
        return make_batch(records, length)

    with BatchReader(Numbers(), plan, slow, start_step=0, num_steps=1) as reader:
        assert reader.wait_seconds == 0
        threading.Timer(0.2, release.set).start()
        next(reader)
        assert 0.05 < reader.wait_seconds < 5
