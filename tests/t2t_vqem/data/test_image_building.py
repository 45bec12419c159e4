import json
import pathlib
import shutil

import numpy as np
import pytest

from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.data import image_building
from t2t_vqem.data.image_building import build_image_shard, build_images
from t2t_vqem.data.image_source import ArrayImages, ImageSource, Unreadable
from t2t_vqem.data.records import RecordReader, RecordWriter, Schema

SHAPE = (3, 2, 1)


def images_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def source_of(train: int, dev: int = 2, test: int = 1) -> ArrayImages:
    images = {
        split: images_of(count, seed)
        for seed, (split, count) in enumerate(((TRAIN, train), (DEV, dev), (TEST, test)))
    }
    return ArrayImages("noise", lambda: images, notes=["that is noise"])


class Holes(ImageSource):
    """Images of which those with a number in `bad` cannot be read."""

    def __init__(self, bad, count=6):
        self._bad = set(bad)
        self._count = count

    def describe(self):
        return "holes"

    def fingerprint(self):
        return {}

    def num_images(self, split):
        return self._count

    def part(self, split, start, end):
        images = images_of(self._count)
        return [
            Unreadable(f"{split}/{n}\udcff: broken") if n in self._bad else images[n]
            for n in range(start, end)
        ]


@pytest.fixture
def small_parts(monkeypatch):
    """Limits parts to 4 images, so that a few images make several parts."""
    monkeypatch.setattr(image_building, "_PART_IMAGES", 4)


def run(folder: pathlib.Path, source, num_workers=1) -> dict:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return build_images(
        str(folder),
        str(folder / "scratch"),
        source,
        SHAPE,
        num_workers=num_workers,
        progress=False,
    )


def read(folder: pathlib.Path, manifest: dict, split: str) -> np.ndarray:
    shards = [str(folder / name) for name in manifest["splits"][split]["shards"]]
    reader = RecordReader(shards, Schema.from_json(manifest["schema"]))
    return np.array([record["image"] for record in reader.read(range(len(reader)))])


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the files of a data set, without temporary ones."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_combined_shards_equal_the_whole(tmp_path, small_parts, monkeypatch):
    expected = run(tmp_path / "whole", Holes([1, 5]))
    for shard in (1, 0):
        (tmp_path / "shards/scratch").mkdir(parents=True, exist_ok=True)
        done = build_image_shard(
            str(tmp_path / "shards"),
            str(tmp_path / "shards/scratch"),
            Holes([1, 5]),
            SHAPE,
            shard=shard,
            num_shards=2,
            num_workers=1,
            progress=False,
        )
    assert done == (6, 6)
    monkeypatch.setattr(image_building, "_write_part", None)  # everything is written already
    assert run(tmp_path / "shards", Holes([1, 5])) == expected
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")
    first, second = sorted((tmp_path / "shards").glob("train-*"))
    shutil.copy(second, first)
    with pytest.raises(UsageError, match=r"train-00000\S*: 1 records, expected 3\. Delete"):
        run(tmp_path / "shards", Holes([1, 5]))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 13])
def test_the_records_hold_the_images_in_order(tmp_path, small_parts, count):
    manifest = run(tmp_path, source_of(count, dev=9))
    np.testing.assert_array_equal(read(tmp_path, manifest, TRAIN), images_of(count))
    np.testing.assert_array_equal(read(tmp_path, manifest, DEV), images_of(9, seed=1))
    np.testing.assert_array_equal(read(tmp_path, manifest, TEST), images_of(1, seed=2))
    train = manifest["splits"][TRAIN]
    assert (train["num_examples"], train["dropped"]) == (count, 0)
    assert len(train["shards"]) == -(-count // 4)
    assert train["shards"][0] == f"train-00000-of-{-(-count // 4):05}.array_record"
    assert json.loads(json.dumps(manifest)) == manifest


def test_large_images_make_small_parts_but_not_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(image_building, "_PART_BYTES", 20)
    assert len(run(tmp_path / "a", source_of(10))["splits"][TRAIN]["shards"]) == 4
    monkeypatch.setattr(image_building, "_PART_BYTES", 1)
    assert len(run(tmp_path / "b", source_of(10))["splits"][TRAIN]["shards"]) == 10
    monkeypatch.setattr(image_building, "_MAX_PARTS", 3)
    manifest = run(tmp_path / "c", source_of(10))
    assert len(manifest["splits"][TRAIN]["shards"]) == 3
    np.testing.assert_array_equal(read(tmp_path / "c", manifest, TRAIN), images_of(10))


def test_the_number_of_workers_changes_nothing(tmp_path, small_parts):
    manifests = [run(tmp_path / str(n), source_of(21), num_workers=n) for n in (1, 3)]
    assert manifests[0] == manifests[1]
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_the_report(tmp_path):
    run(tmp_path, source_of(1234))
    assert (tmp_path / "report.txt").read_text() == (
        "train: 1,234 images of 3x2x1\n"
        "dev: 2 images of 3x2x1\n"
        "test: 1 images of 3x2x1\n"
        "that is noise\n"
    )


def test_unreadable_images_are_dropped_counted_and_listed(tmp_path, small_parts):
    manifest = run(tmp_path, Holes({1, 4, 5}))
    for split in SPLITS:
        numbers = manifest["splits"][split]
        assert (numbers["num_examples"], numbers["dropped"]) == (3, 3)
        np.testing.assert_array_equal(read(tmp_path, manifest, split), images_of(6)[[0, 2, 3]])
    report = (tmp_path / "report.txt").read_text()
    # The name holds a byte that is not UTF-8.
    expected = (
        "dev: 3 images of 3x2x1\n  dropped 3 that cannot be read:\n    dev/1\\udcff: broken\n"
    )
    assert expected in report


def test_a_long_list_is_cut(tmp_path):
    run(tmp_path, Holes(range(1, 30), count=30))
    report = (tmp_path / "report.txt").read_text()
    assert report.count("train/") == 20
    assert "    and 9 more\n" in report


def test_a_split_without_images_is_an_error_with_the_reasons(tmp_path):
    with pytest.raises(UsageError, match=r"(?s)holes: no image is left in train:.*train/2.*broken"):
        run(tmp_path, Holes(range(6)))
    with pytest.raises(UsageError, match="noise: no image is left in dev"):
        run(tmp_path / "other", source_of(3, dev=0))


@pytest.mark.parametrize("stop_at", range(5))
def test_continues_from_finished_parts_to_the_same_result(
    tmp_path, small_parts, monkeypatch, stop_at
):
    source = source_of(11)  # 3 parts, and one each of dev and test
    expected = run(tmp_path / "whole", source)
    write = image_building._write_part
    written = []

    def stopping(part):
        written.append(part.shard)
        if len(written) == stop_at + 1:
            raise KeyboardInterrupt
        write(part)

    with monkeypatch.context() as patch:
        patch.setattr(image_building, "_write_part", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", source)
    before = len(written)
    monkeypatch.setattr(
        image_building, "_write_part", lambda part: (written.append(part.shard), write(part))
    )
    assert run(tmp_path / "cut", source) == expected
    assert len(written) - before == 5 - stop_at
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_an_error_in_reading_leaves_no_part_of_a_shard(tmp_path, small_parts):
    class Breaking(ArrayImages):
        def part(self, split, start, end):
            yield from super().part(split, start, end - 1)
            raise UsageError("x.png is bad")

    images = {split: images_of(6) for split in SPLITS}
    with pytest.raises(UsageError, match="x.png is bad"):
        run(tmp_path, Breaking("x", lambda: images))
    assert not list(tmp_path.rglob("*.array_record*"))


def test_files_of_killed_workers_are_removed(tmp_path):
    (tmp_path / "scratch").mkdir()
    left = tmp_path / "scratch/train-00000-of-00001.array_record.4711"
    left.touch()
    run(tmp_path, source_of(9))
    assert not left.exists()


def test_an_image_of_another_shape_is_an_error(tmp_path):
    images = {split: np.zeros((2, 4, 2, 1), np.uint8) for split in SPLITS}
    with pytest.raises(ValueError, match=r"image: shape \(4, 2, 1\), expected \(3, 2, 1\)"):
        run(tmp_path, ArrayImages("x", lambda: images))


def test_a_full_disk_leaves_no_part_of_a_shard(tmp_path, monkeypatch):
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("needs /dev/full")

    class FullDisk(RecordWriter):
        def __init__(self, path, schema):
            super().__init__("/dev/full", schema)

    with monkeypatch.context() as patch:
        patch.setattr(image_building, "RecordWriter", FullDisk)
        with pytest.raises(OSError, match="No space left on device"):
            run(tmp_path, source_of(20))
    assert not list(tmp_path.rglob("*.array_record*"))
    manifest = run(tmp_path, source_of(20))
    np.testing.assert_array_equal(read(tmp_path, manifest, TRAIN), images_of(20))
