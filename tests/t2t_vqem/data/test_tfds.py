"""Data sets of TFDS: how they are found, read in parts, and refused."""

import numpy as np
import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.data.tfds import find_tfds
from t2t_vqem.data.tfds_images import read_tfds


def test_finds_the_newest_prepared_version(tmp_path):
    with pytest.raises(UsageError, match=r"looked for .*a/b/VERSION/dataset_info.json"):
        find_tfds(str(tmp_path), "a/b")
    for version in ("1.9.0", "1.10.0", "incomplete"):
        (tmp_path / "a/b" / version).mkdir(parents=True)
        if version[0] == "1":
            (tmp_path / "a/b" / version / "dataset_info.json").touch()
    newest = str(tmp_path / "a/b/1.10.0")
    assert find_tfds(str(tmp_path), "a/b") == newest
    assert find_tfds(newest, "a/b") == newest
    assert find_tfds(str(tmp_path), "a/b:1.9.0") == str(tmp_path / "a/b/1.9.0")


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
    with pytest.raises(UsageError, match=r"no split 'test' .* It has train \(3\)\."):
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
        (
            0.52,
            r"train cannot be read after 15 examples \(truncated record .*\)\. Prepare it again",
        ),
        (
            0.0,
            r"after 0 examples \(Input dataset was expected to contain 30 elements but .* 0 elem",
        ),
    ],
)
def test_a_truncated_tfds_data_set_is_an_error(tmp_path, keep, message):
    directory, _ = prepare_tfds(tmp_path)
    (shard,) = directory.glob("*train*record*")
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UsageError, match=message):
        read_tfds(str(directory), ("train", "test"), (4, 3, 3))
