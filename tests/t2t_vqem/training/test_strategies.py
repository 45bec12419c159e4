import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.training.strategies import Replicas, make_strategy


class ThreePlusEmpty:
    """A plan of two batches: 7 rows of length 4, the last row empty, then 3 of length 8."""

    num_steps = 2

    def batch(self, step):
        if step:
            return np.array([9, 8, 7]), 8
        return np.array([5, 3, 1, 0, 2, 4, -1]), 4


def test_auto_uses_the_cpu_if_there_is_no_gpu():
    strategy = make_strategy()
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert strategy.num_replicas_in_sync == 1


def test_auto_mirrors_on_several_devices():
    strategy = make_strategy("auto", ["CPU:0", "cpu:1"])
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == 2


def test_one_device_may_be_any_device():
    assert make_strategy("one_device", ["cpu:1"]).extended.worker_devices[0].endswith("CPU:1")


@pytest.mark.parametrize(
    ("name", "devices", "message"),
    [
        ("miror", [], "unknown strategy 'miror'. Expected one of: auto, one_device, mirrored"),
        ("multi_worker", ["cpu:0"], "--devices=cpu:0 has no effect with --strategy=multi_worker"),
        ("multi_worker", [], "TF_CONFIG is not set. .*t2t-make-tf-configs prints its value"),
        ("tpu", ["cpu:0"], "--devices=cpu:0 has no effect with --strategy=tpu"),
        ("one_device", ["cpu:0", "cpu:1"], "takes one device, got cpu:0, cpu:1"),
        ("mirrored", ["cpu:0", "gpu:7"], "no device 'gpu:7'. Expected one of: cpu:0, cpu:1"),
        ("mirrored", ["cpu:0", "cpu:5"], "cannot create 6 logical CPU devices"),
        ("mirrored", ["cpu"], "no device 'cpu'"),
    ],
)
def test_what_does_not_fit(name, devices, message):
    tf.constant(0) + 1  # devices can no longer be created
    with pytest.raises(UsageError, match=message):
        make_strategy(name, devices)


def test_replicas_get_contiguous_rows_and_their_offset():
    replicas = Replicas(make_strategy("mirrored", ["cpu:0", "cpu:1"]))
    assert (replicas.total, replicas.first, replicas.local) == (2, 0, 2)
    rows = np.arange(12).reshape(6, 2)
    batch = replicas.distribute({"inputs": rows})
    parts = batch.features["inputs"].values
    np.testing.assert_array_equal(np.concatenate([part.numpy() for part in parts]), rows)
    assert [int(offset) for offset in batch.row_offset.values] == [0, 3]


def test_rows_of_one_replica_are_those_of_the_plan():
    plan = Replicas(make_strategy()).own_rows(ThreePlusEmpty())
    assert plan.num_steps == 2
    indices, length = plan.batch(0)
    np.testing.assert_array_equal(indices, [5, 3, 1, 0, 2, 4, -1])
    assert length == 4


def test_empty_rows_are_appended_to_divide_a_batch():
    plan = Replicas(make_strategy("mirrored", ["cpu:0", "cpu:1"])).own_rows(ThreePlusEmpty())
    np.testing.assert_array_equal(plan.batch(0)[0], [5, 3, 1, 0, 2, 4, -1, -1])
    np.testing.assert_array_equal(plan.batch(1)[0], [9, 8, 7, -1])


@pytest.mark.parametrize(
    ("first", "expected"), [(0, [5, 3]), (1, [1, 0]), (2, [2, 4]), (3, [-1, -1])]
)
def test_each_process_reads_its_own_rows(first, expected):
    replicas = Replicas(make_strategy())
    replicas.total, replicas.first, replicas.local = 4, first, 1
    np.testing.assert_array_equal(replicas.own_rows(ThreePlusEmpty()).batch(0)[0], expected)


def test_a_single_worker_is_the_chief_and_needs_no_all_reduce():
    for devices in (["cpu:0"], ["cpu:0", "cpu:1"]):
        replicas = Replicas(make_strategy("auto", devices))
        assert (replicas.num_workers, replicas.worker, replicas.is_chief) == (1, 0, True)
        assert replicas.gather(7) == [7]
        np.testing.assert_array_equal(replicas.sum_over_workers(np.array([1, 2])), [1, 2])
