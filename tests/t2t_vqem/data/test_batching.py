import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from t2t_vqem.data.batching import BatchPlan, bucket_lengths

plans = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(1, 50), min_size=1, max_size=60).map(np.array),
        "batch_size": st.integers(1, 200),
        "max_length": st.integers(1, 60),
        "num_buckets": st.integers(1, 7),
        "seed": st.integers(0, 2**32),
        "shuffle": st.booleans(),
    }
)


def epoch_of(plan: BatchPlan, epoch: int) -> list[tuple[list[int], int]]:
    first = epoch * plan.steps_per_epoch
    batches = [plan.batch(step) for step in range(first, first + plan.steps_per_epoch)]
    return [(indices.tolist(), length) for indices, length in batches]


def real(batches) -> list[int]:
    return [index for indices, _ in batches for index in indices if index >= 0]


@hypothesis.given(plans, st.integers(0, 3))
def test_an_epoch_holds_every_example_once_in_a_row_that_is_long_enough(settings, epoch):
    plan = BatchPlan(**settings)
    batches = epoch_of(plan, epoch)
    assert sorted(real(batches)) == list(range(len(settings["lengths"])))
    for indices, length in batches:
        assert (len(indices), length) in plan.shapes
        for index in indices:
            wanted = min(settings["lengths"][index], settings["max_length"])
            assert index == -1 or wanted <= length
    positions = sum(len(indices) * length for indices, length in batches)
    assert positions == plan.positions_per_epoch
    # Only the last batch of each bucket may have empty rows, and no batch has only empty rows.
    assert sum(-1 in indices for indices, _ in batches) <= len(plan.shapes)
    assert all(max(indices) >= 0 for indices, _ in batches)


@hypothesis.given(
    plans, st.lists(st.floats(0.01, 3) | st.sampled_from([0.25, 0.5, 1, 2]), min_size=1, max_size=3)
)
def test_examples_occur_as_often_as_their_corpus_weighs(settings, weights):
    lengths = settings["lengths"]
    bounds = np.linspace(0, len(lengths), len(weights) + 1).astype(int)
    corpora = list(zip(np.diff(bounds).tolist(), weights, strict=True))
    make = {**settings, "shuffle": True, "corpora": corpora}
    plan = BatchPlan(**make)
    epochs = [epoch_of(plan, epoch) for epoch in range(4)]
    # A plan made anew has the batch of any step, in any order: training resumes where it was.
    last = 4 * plan.steps_per_epoch - 1
    assert epoch_of(BatchPlan(**make), 2) == epochs[2]
    assert BatchPlan(**make).batch(last).indices.tolist() == epochs[3][-1][0]
    counts = [np.bincount(real(epoch), minlength=len(lengths)) for epoch in epochs]
    for start, end, weight in zip(bounds, bounds[1:], weights, strict=False):
        for count in counts:
            assert set(count[start:end]) <= {int(weight), int(weight) + 1}
        total = sum(count[start:end].sum() for count in counts)
        # Each bucket rounds, and has at least one example.
        assert abs(total - 4 * weight * (end - start)) <= 4 * len(plan.shapes)
    for indices, length in itertools.chain(*epochs):
        assert all(min(lengths[i], settings["max_length"]) <= length for i in indices if i >= 0)


def test_a_share_goes_round_all_examples():
    plan = BatchPlan(
        np.ones(40, int), batch_size=4, max_length=4, num_buckets=1, seed=3,
        corpora=[(8, 0.25), (30, 1), (2, 2.5)],
    )  # fmt: skip
    epochs = [np.bincount(real(epoch_of(plan, epoch)), minlength=40) for epoch in range(4)]
    assert [epoch[:8].sum() for epoch in epochs] == [2, 2, 2, 2]
    assert sum(epochs)[:8].tolist() == [1] * 8
    assert sum(epochs)[8:].tolist() == [4] * 30 + [10] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


@hypothesis.given(plans)
def test_one_corpus_of_weight_1_changes_nothing(settings):
    weighted = BatchPlan(**settings, corpora=[(len(settings["lengths"]), 1.0)])
    assert epoch_of(weighted, 1) == epoch_of(BatchPlan(**settings), 1)


def test_corpora_of_other_data_are_refused():
    with pytest.raises(ValueError, match="have other than 3 examples"):
        BatchPlan(np.ones(3), batch_size=4, max_length=4, num_buckets=1, seed=0, corpora=[(2, 1.0)])


@hypothesis.given(plans)
def test_shapes(settings):
    plan = BatchPlan(**settings)
    assert 1 <= len(plan.shapes) <= settings["num_buckets"]
    lengths = [length for _, length in plan.shapes]
    assert lengths == sorted(set(lengths))
    for rows, length in plan.shapes:
        assert length % 4 == 0 or length == settings["max_length"]
        assert length <= settings["max_length"]
        assert rows == max(1, min(settings["batch_size"] // length, len(settings["lengths"])))


def test_a_batch_larger_than_the_data_has_no_more_rows_than_there_are_examples():
    lengths = np.tile([3, 9, 14, 30], 10)
    settings = {"max_length": 256, "num_buckets": 6, "seed": 0}
    plan = BatchPlan(lengths, batch_size=2_000_000, **settings)
    assert plan.shapes == [(40, 4), (40, 12), (40, 16), (40, 32)]
    assert plan.steps_per_epoch == 4
    # What fits as it is stays as it is.
    assert BatchPlan(lengths, batch_size=512, **settings).shapes == [
        (40, 4),
        (40, 12),
        (32, 16),
        (16, 32),
    ]


@hypothesis.given(plans, st.lists(st.integers(0, 100), max_size=5))
def test_a_batch_is_a_function_of_the_step(settings, steps):
    plan = BatchPlan(**settings)
    walked = [plan.batch(step) for step in range(max(steps, default=-1) + 1)]
    jumping = BatchPlan(**settings)
    for step in steps:  # in any order, as after a restart
        for again in (jumping.batch(step), BatchPlan(**settings).batch(step)):
            np.testing.assert_array_equal(again.indices, walked[step].indices)
            assert again.length == walked[step].length
            assert again.indices.dtype == np.int64


def test_the_order_depends_on_the_epoch_and_the_seed():
    lengths = np.arange(100) % 13 + 1
    settings = {"batch_size": 40, "max_length": 20, "num_buckets": 3}
    plan = BatchPlan(lengths, seed=1, **settings)
    assert epoch_of(plan, 0) != epoch_of(plan, 1)
    assert epoch_of(plan, 0) != epoch_of(BatchPlan(lengths, seed=2, **settings), 0)
    assert epoch_of(plan, 1) == epoch_of(BatchPlan(lengths, seed=1, **settings), 1)
    # Lengths are mixed: an epoch does not take the buckets one after the other.
    order = [length for _, length in epoch_of(plan, 0)]
    assert order != sorted(order)


def test_without_shuffling_the_data_keeps_its_order():
    lengths = np.array([3, 20, 4, 19, 2, 1, 18])
    plan = BatchPlan(lengths, batch_size=8, max_length=20, num_buckets=2, seed=0, shuffle=False)
    expected = [([0, 2], 4), ([4, 5], 4), ([1], 20), ([3], 20), ([6], 20)]
    assert epoch_of(plan, 0) == epoch_of(plan, 5) == expected


def test_the_order_is_uniformly_random():
    # Of 4 examples in one bucket, each comes first in about a quarter of 2,000 epochs.
    plan = BatchPlan(np.full(4, 4), batch_size=4, max_length=4, num_buckets=1, seed=3)
    first = np.bincount([plan.batch(4 * epoch).indices[0] for epoch in range(2000)])
    assert np.abs(first - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_epochs_end():
    plan = BatchPlan(np.full(5, 4), batch_size=8, max_length=4, num_buckets=1, seed=0, epochs=2)
    assert plan.num_steps == 6
    plan.batch(5)
    for step in (6, -1):
        with pytest.raises(IndexError, match=f"step {step} is not in the plan, which has 6 steps"):
            plan.batch(step)
    endless = BatchPlan(np.full(5, 4), batch_size=8, max_length=4, num_buckets=1, seed=0)
    assert endless.num_steps is None
    endless.batch(10**9)
    with pytest.raises(IndexError, match="step -1"):
        endless.batch(-1)


def padded(lengths, bounds) -> int:
    return sum(min(bound for bound in bounds if bound >= length) for length in lengths)


@hypothesis.given(
    st.lists(st.integers(1, 30), min_size=1, max_size=15), st.integers(1, 4), st.integers(1, 30)
)
def test_bucket_lengths_pad_as_little_as_any_choice(lengths, num_buckets, max_length):
    lengths = np.minimum(lengths, max_length)
    found = bucket_lengths(lengths, max_length, num_buckets)
    assert len(found) <= num_buckets
    candidates = sorted({min(4 * n, max_length) for n in range(1, 9)})
    best = min(
        padded(lengths, bounds)
        for count in range(1, num_buckets + 1)
        for bounds in itertools.combinations(candidates, min(count, len(candidates)))
        if bounds[-1] >= max(lengths)
    )
    assert padded(lengths, found) == best


@pytest.mark.parametrize("name", ["batch_size", "max_length", "num_buckets"])
def test_settings_below_one_are_refused(name):
    settings = {"batch_size": 8, "max_length": 4, "num_buckets": 1}
    with pytest.raises(ValueError, match=f"{name} is 0, expected at least 1"):
        BatchPlan(np.ones(3), seed=0, **{**settings, name: 0})


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="number of examples is 0"):
        BatchPlan(np.ones(0), batch_size=8, max_length=4, num_buckets=1, seed=0)
