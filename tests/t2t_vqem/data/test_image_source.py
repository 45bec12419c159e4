import hashlib
import pickle

import numpy as np
import pytest

from t2t_vqem.constants import DEV, TEST, TRAIN, UsageError
from t2t_vqem.data.image_source import ArrayImages, hold_out, hold_out_images, read_tfds


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


def prepare_tfds(folder, name="cifar10", shape=(4, 3, 3), sizes=None):
    """Writes random images in the layout of TFDS; returns the folder and the images."""
    tf = pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")
    rng = np.random.default_rng(0)
    images = {
        split: rng.integers(0, 256, (count, *shape), np.uint8)
        for split, count in (sizes or {"train": 30, "test": 7}).items()
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="3.0.2",
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=shape)}),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices({"image": array})
            for split, array in images.items()
        },
        data_dir=str(folder),
    )
    return folder / name / "3.0.2", images


@pytest.mark.slow
def test_reads_every_image_of_a_prepared_tfds_data_set(tmp_path):
    directory, images = prepare_tfds(tmp_path)
    found = read_tfds(str(directory), ("train", "test"), (4, 3, 3))
    for split, array in images.items():
        # TFDS shuffles the examples.
        assert found[split].dtype == np.uint8
        assert sorted(i.tobytes() for i in found[split]) == sorted(i.tobytes() for i in array)


@pytest.mark.slow
def test_another_tfds_data_set_is_an_error(tmp_path):
    directory, _ = prepare_tfds(tmp_path, "mnist", (4, 3, 1), {"train": 3})
    message = r"the images have the shape \(4, 3, 1\), expected \(4, 3, 3\): .* mnist"
    with pytest.raises(UsageError, match=message):
        read_tfds(str(directory), ("train",), (4, 3, 3))
    with pytest.raises(UsageError, match="no split test, expected train, test; it has train"):
        read_tfds(str(directory), ("train", "test"), (4, 3, 1))
    with pytest.raises(UsageError, match="TFDS cannot open this data set"):
        read_tfds(str(tmp_path / "nothing"), ("train",), (4, 3, 1))
    (directory / "dataset_info.json").write_text("{")
    with pytest.raises(UsageError, match=r"mnist/3\.0\.2: TFDS cannot open this data set"):
        read_tfds(str(directory), ("train",), (4, 3, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0.52, r"train cannot be read after 15 images \(truncated record .*\)\. Prepare it again"),
        (0.0, r"after 0 images \(Input dataset was expected to contain 30 elements but .* 0 elem"),
    ],
)
def test_a_truncated_tfds_data_set_is_an_error(tmp_path, keep, message):
    directory, _ = prepare_tfds(tmp_path)
    (shard,) = directory.glob("*train*record*")
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UsageError, match=message):
        read_tfds(str(directory), ("train", "test"), (4, 3, 3))
