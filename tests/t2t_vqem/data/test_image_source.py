import hashlib
import pickle

import numpy as np
import pytest

from t2t_vqem.constants import DEV, TEST, TRAIN, UsageError
from t2t_vqem.data.image_source import ArrayImages, hold_out, hold_out_images


def digests_of(contents) -> list[bytes]:
    return [hashlib.sha256(str(content).encode()).digest() for content in contents]


def test_every_example_is_in_exactly_one_split():
    splits = hold_out(digests_of(range(100)), {DEV: 7, TEST: 11}, seed=3)
    assert {split: len(numbers) for split, numbers in splits.items()} == {
        DEV: 7,
        TEST: 11,
        TRAIN: 82,
    }
    assert sorted(n for numbers in splits.values() for n in numbers) == list(range(100))
    assert all(numbers == sorted(numbers) for numbers in splits.values())


def test_held_out_examples_do_not_depend_on_the_order():
    contents = list(range(60))
    chosen = []
    for order in (contents, contents[::-1]):
        splits = hold_out(digests_of(order), {DEV: 9, TEST: 4}, seed=0)
        chosen.append({split: {order[n] for n in splits[split]} for split in splits})
    assert chosen[0] == chosen[1]


def test_another_seed_holds_out_other_examples():
    first, second = (hold_out(digests_of(range(100)), {DEV: 50}, seed)[DEV] for seed in (1, 2))
    assert first != second
    assert len({*first} & {*second}) < 40  # 25 are expected


@pytest.mark.parametrize("seed", range(8))
def test_copies_are_in_the_same_split(seed):
    contents = [n % 10 for n in range(30)]
    splits = hold_out(digests_of(contents), {DEV: 4, TEST: 3}, seed)
    held = {split: {contents[n] for n in numbers} for split, numbers in splits.items()}
    assert not held[DEV] & held[TEST] and not (held[DEV] | held[TEST]) & held[TRAIN]
    assert (len(splits[DEV]), len(splits[TEST]), len(splits[TRAIN])) == (6, 3, 21)


@pytest.mark.parametrize(("count", "sizes"), [(5, {DEV: 5}), (2, {DEV: 1, TEST: 1}), (0, {})])
def test_no_training_examples_is_an_error(count, sizes):
    with pytest.raises(UsageError, match=f"{count} images, of which .*: none is left for training"):
        hold_out(digests_of(range(count)), sizes, seed=0)


def test_the_error_says_how_many_examples_would_be_held_out():
    with pytest.raises(UsageError, match="3 images, of which 2 for dev and 1 for test would be"):
        hold_out(digests_of(range(3)), {DEV: 2, TEST: 1}, seed=0)


def test_images_are_split_by_their_digests():
    images = np.random.default_rng(0).integers(0, 256, (20, 2, 3, 1), np.uint8)
    splits = hold_out_images(images, {DEV: 5}, seed=0)
    assert splits[DEV].shape == (5, 2, 3, 1)
    assert splits[TRAIN].shape == (15, 2, 3, 1)
    again = hold_out_images(images[::-1], {DEV: 5}, seed=0)
    np.testing.assert_array_equal(again[DEV][::-1], splits[DEV])
    together = np.concatenate([splits[TRAIN], splits[DEV]])
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(images, axis=0))


def test_array_images_are_loaded_once_when_first_needed():
    calls = []

    def load():
        calls.append(1)
        return {TRAIN: np.arange(24, dtype=np.uint8).reshape(4, 2, 3, 1)}

    source = ArrayImages("six pixels", load, notes=["a note"])
    assert (source.describe(), source.notes(), calls) == ("six pixels", ["a note"], [])
    assert source.num_images(TRAIN) == 4
    part = pickle.loads(pickle.dumps(source.part(TRAIN, 1, 3)))
    assert [image.tolist() for image in part] == [
        [[[6], [7], [8]], [[9], [10], [11]]],
        [[[12], [13], [14]], [[15], [16], [17]]],
    ]
    source.fingerprint()
    assert len(calls) == 1


def test_the_fingerprint_depends_on_pixels_and_order():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 3), np.uint8)

    def fingerprint(array):
        return ArrayImages("x", lambda: {TRAIN: array}).fingerprint()

    assert fingerprint(images) == fingerprint(np.asfortranarray(images))
    assert fingerprint(images) != fingerprint(images[::-1])
    assert list(fingerprint(images)) == ["train images"]
