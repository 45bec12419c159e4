"""Random numbers: distribution, independence, and no effect of how a batch is divided."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.ops.random import Rng, dropout, row_uniform, uniform_from_bits


def masks(step: int, *, seed: int = 0, rows: int = 64, row_offset: int = 0, places: int = 1):
    rng = Rng(seed, step, row_offset)
    ones = tf.ones([rows, 37, 11])
    return np.stack([rng.dropout(ones, 0.3).numpy() > 0 for _ in range(places)])


def test_dropout_zeroes_the_given_share_and_keeps_the_mean():
    x = tf.ones([128, 65, 33])
    dropped = Rng(1, 2).dropout(x, 0.3).numpy()
    deviation = np.sqrt(0.3 * 0.7 / dropped.size)
    assert abs((dropped == 0).mean() - 0.3) < 5 * deviation
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.7, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_row_and_column_is_dropped_equally_often(axis):
    kept = masks(0, rows=256)[0]
    others = tuple(a for a in range(3) if a != axis)
    deviation = np.sqrt(0.3 * 0.7 / (kept.size / kept.shape[axis]))
    assert np.abs(kept.mean(others) - 0.7).max() < 5 * deviation


def test_adjacent_elements_are_independent():
    kept = masks(3, rows=256)[0].astype(float) - 0.7
    for shifted in (kept[1:], kept[:, 1:], kept[:, :, 1:]):
        own = kept[tuple(slice(0, n) for n in shifted.shape)]
        correlation = (own * shifted).mean() / 0.21
        assert abs(correlation) < 5 / np.sqrt(shifted.size)


@pytest.mark.parametrize(
    "other", [{"step": 1}, {"step": 0, "seed": 1}], ids=["next step", "other seed"]
)
def test_steps_and_seeds_differ_and_are_independent(other):
    a, b = masks(0)[0] - 0.7, masks(**other)[0] - 0.7
    assert abs((a * b).mean() / 0.21) < 5 / np.sqrt(a.size)


def test_call_sites_are_independent():
    kept = masks(5, places=6) - 0.7
    for i in range(6):
        for j in range(i):
            assert abs((kept[i] * kept[j]).mean() / 0.21) < 5 / np.sqrt(kept[i].size)


def test_a_replica_draws_its_rows_of_the_global_mask():
    whole = masks(7, rows=12, places=3)
    first = masks(7, rows=5, places=3)
    second = masks(7, rows=7, row_offset=5, places=3)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)


def test_compiled_equals_eager_and_tensors_equal_integers():
    @tf.function(jit_compile=True)
    def compiled(seed, step, offset):
        return Rng(seed, step, offset).dropout(tf.ones([5, 7]), 0.5)

    args = [tf.constant(n) for n in (3, 9, 4)]
    expected = Rng(3, 9, 4).dropout(tf.ones([5, 7]), 0.5)
    np.testing.assert_array_equal(compiled(*args), expected)


def test_no_rng_means_no_dropout():
    x = tf.random.stateless_normal([3, 5], [0, 1])
    np.testing.assert_array_equal(dropout(x, 0.5, None), x)
    np.testing.assert_array_equal(dropout(x, 0.0, Rng(0, 0)), x)


def test_uniform_numbers_are_in_the_open_interval_and_uniform():
    extremes = uniform_from_bits(tf.constant([0, 2**32 - 1], tf.uint32)).numpy()
    assert 0 < extremes[0] < extremes[1] < 1
    draws = row_uniform(4, 11, tf.range(200), 501).numpy()
    counts, _ = np.histogram(draws, 20, (0, 1))
    expected = draws.size / 20
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_row_uniform_depends_on_the_row_id_not_on_the_position():
    together = row_uniform(4, 11, tf.constant([8, 3, 5]), 17).numpy()
    alone = row_uniform(4, 11, tf.constant([5]), 17).numpy()
    np.testing.assert_array_equal(together[2], alone[0])
    assert not np.array_equal(row_uniform(4, 12, tf.constant([5]), 17).numpy(), alone)
    assert not np.array_equal(row_uniform(5, 11, tf.constant([5]), 17).numpy(), alone)
