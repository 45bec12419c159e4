import json
import os
import pathlib
import random
import shutil
import subprocess

import numpy as np
import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.data import text_building, text_parts
from t2t_vqem.data.filters import Filters
from t2t_vqem.data.groups import GROUP_SIZES, group_words
from t2t_vqem.data.records import RecordReader, RecordWriter, Schema
from t2t_vqem.data.text_building import TextSettings, build_text, build_text_shard
from t2t_vqem.data.text_source import GeneratedPairs
from t2t_vqem.data.vocabulary import Vocabulary

SETTINGS = TextSettings(("en", "de"), 300, 1000, Filters(max_length=20, max_ratio=3.0), seed=1)
WORDS = ["one", "two", "three", "four", "five", "six"]


def pairs_of(count: int, seed: int = 0) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(2, 3))) for _ in range(count)]
    return [(line, line[::-1]) for line in lines]


def filtered(**filters) -> TextSettings:
    return SETTINGS._replace(filters=SETTINGS.filters._replace(**filters))


def source_of(train, dev=(("one", "eno"),), test=(("two", "owt"),)) -> GeneratedPairs:
    return GeneratedPairs("x", {"train": lambda: train, "dev": lambda: dev, "test": lambda: test})


def run(folder: pathlib.Path, source, settings=SETTINGS, num_workers=1) -> dict:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return build_text(
        str(folder),
        str(folder / "scratch"),
        source,
        settings,
        num_workers=num_workers,
        progress=False,
    )


def decoded(folder: pathlib.Path, manifest: dict, split: str) -> list[tuple[str, str]]:
    """Returns the pairs in the records of a split."""
    vocabulary = Vocabulary(str(folder / manifest["vocabulary"]["file"]))
    shards = [str(folder / name) for name in manifest["splits"][split]["shards"]]
    reader = RecordReader(shards, Schema.from_json(manifest["schema"]))
    records = reader.read(np.arange(len(reader)))
    return [
        (vocabulary.decode(record["inputs"]), vocabulary.decode(record["targets"]))
        for record in records
    ]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the files of a data set, without temporary ones."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def small_parts(monkeypatch):
    """Limits parts to 8 lines and chunks to 3, so that a small text has several of each."""
    monkeypatch.setattr(text_building, "_MARK_LINES", 4)
    monkeypatch.setattr(text_building, "_PART_LINES", 8)
    monkeypatch.setattr(text_parts, "_CHUNK_LINES", 3)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 24, 45])
def test_the_records_hold_the_text_in_order(tmp_path, small_parts, count):
    pairs = pairs_of(count)
    manifest = run(tmp_path, source_of(pairs, dev=pairs_of(13, seed=5)))
    train = manifest["splits"]["train"]
    assert decoded(tmp_path, manifest, "train") == pairs
    assert decoded(tmp_path, manifest, "dev") == pairs_of(13, seed=5)
    assert decoded(tmp_path, manifest, "test") == [("two", "owt")]
    assert len(train["shards"]) == -(-count // 8)
    assert train["shards"][-1] == f"train-{(count - 1) // 8:05}-of-{-(-count // 8):05}.array_record"
    assert train["num_lines"] == train["num_examples"] == count


def test_parts_grow_if_there_would_be_too_many(tmp_path, small_parts, monkeypatch):
    monkeypatch.setattr(text_building, "_MAX_PARTS", 3)
    manifest = run(tmp_path, source_of(pairs_of(45)))
    assert len(manifest["splits"]["train"]["shards"]) == 3
    assert decoded(tmp_path, manifest, "train") == pairs_of(45)


def test_lengths_and_counts_are_those_of_the_records(tmp_path, small_parts):
    manifest = run(tmp_path, source_of(pairs_of(30)))
    train = manifest["splits"]["train"]
    vocabulary = Vocabulary(str(tmp_path / "vocab.model"))
    expected = [[len(vocabulary.encode(s)) + 1 for s in pair] for pair in pairs_of(30)]
    lengths = np.load(tmp_path / "lengths.train.npy")
    assert lengths.dtype == np.int32
    np.testing.assert_array_equal(lengths[:, :2], expected)
    targets = [vocabulary.encode(target) for _, target in pairs_of(30)]
    for column, size in zip(lengths[:, 2:].T, GROUP_SIZES, strict=True):
        rows = group_words(targets, vocabulary.word_starts, size)
        assert column.tolist() == list(map(len, rows))
    assert [train["source_tokens"], train["target_tokens"]] == lengths[:, :2].sum(axis=0).tolist()
    assert train["longest"] == lengths[:, :2].max()
    assert manifest["vocabulary"] == {
        "file": "vocab.model",
        "size": vocabulary.size,
        "sha256": vocabulary.hash,
    }


def test_only_training_pairs_are_dropped_and_they_are_counted(tmp_path, small_parts):
    odd = [
        ("", "eno"),
        ("one", " \t\u2028"),
        ("", ""),
        ("one " * 50, "eno " * 50),
        ("one two six " * 3, "x"),
        ("x", "one two six " * 3),
        ("6 \u2028 7\r\x85", "8 \x0b 9"),  # kept: none of these ends a line
    ]
    good = pairs_of(20)
    pairs = good[:9] + odd + good[9:]
    manifest = run(tmp_path, source_of(pairs, dev=odd, test=odd))
    train = manifest["splits"]["train"]
    assert decoded(tmp_path, manifest, "train") == good[:9] + odd[-1:] + good[9:]
    assert train["dropped"] == {"empty": 3, "too long": 1, "ratio": 2}
    assert (train["num_lines"], train["num_examples"]) == (27, 21)
    for split in ("dev", "test"):
        assert decoded(tmp_path, manifest, split) == odd
        assert sum(manifest["splits"][split]["dropped"].values()) == 0
        for side, language in enumerate(("en", "de")):
            text = (tmp_path / f"{split}.{language}").read_bytes().decode()
            assert text == "".join(pair[side] + "\n" for pair in odd)
    report = (tmp_path / "report.txt").read_text()
    assert "train: 21 pairs of 27 lines" in report
    assert (
        "dropped 6: 3 with an empty side, 1 too long (over 20 tokens), "
        "2 by ratio (one side over 3 times the other)"
    ) in report
    assert "dev: 7 pairs of 7 lines" in report


def test_filters_that_are_on_are_counted_and_named(tmp_path, small_parts):
    pairs = [
        *pairs_of(20),  # some of these occur several times
        ("one", "other"),  # its source is in dev
        ("some", "owt"),  # its target is in test
        ("eno", "two"),  # on the wrong side
        ("six", "six"),
        ("six", "six"),  # a copy and a duplicate
        ("\u043e\u0434\u0438\u043d a", "x y"),
        ("7", "8"),
        ("", ""),
    ]
    settings = filtered(copies=True, duplicates=True, held_out=True, scripts=("latin", ""))
    manifest = run(tmp_path, source_of(pairs), settings, num_workers=2)
    expected = [*dict.fromkeys(pairs_of(20)), ("eno", "two"), ("7", "8")]
    assert decoded(tmp_path, manifest, "train") == expected
    counts = {"empty": 1, "too long": 0, "ratio": 0, "copy": 2, "held out": 2, "script": 1}
    counts["duplicate"] = 20 - len(set(pairs_of(20)))
    assert counts["duplicate"] > 0
    train = manifest["splits"]["train"]
    assert train["dropped"] == counts
    assert train["num_examples"] + sum(counts.values()) == len(pairs)
    report = (tmp_path / "report.txt").read_text()
    assert "2 with a target equal to the source, " in report
    assert "2 with a side that is in dev or test, 1 in another script" in report
    # Dev and test are not changed, and filters that are off are not named.
    assert set(manifest["splits"]["dev"]["dropped"].values()) == {0}
    assert list(run(tmp_path / "off", source_of(pairs))["splits"]["train"]["dropped"]) == [
        "empty", "too long", "ratio",
    ]  # fmt: skip


def test_no_ratio_drops_nothing_by_ratio(tmp_path):
    pairs = [*pairs_of(20), ("x", "one two six " * 3)]
    manifest = run(tmp_path, source_of(pairs), filtered(max_ratio=0.0))
    assert manifest["splits"]["train"]["num_examples"] == 21


def test_the_training_text_is_not_kept(tmp_path):
    run(tmp_path, source_of(pairs_of(20)))
    assert not [name for name in contents(tmp_path) if name.startswith("train.")]


def test_the_number_of_workers_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(text_building, "_MARK_LINES", 16)
    monkeypatch.setattr(text_building, "_PART_LINES", 16)
    source = source_of(pairs_of(80))
    manifests = [run(tmp_path / str(n), source, num_workers=n) for n in (1, 3)]
    assert manifests[0] == manifests[1]
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_the_vocabulary_sample_is_bounded_seeded_and_has_both_languages(tmp_path, monkeypatch):
    samples = []
    real = Vocabulary.train

    def spy(sentences, *args):
        samples.append(list(sentences))
        return real(samples[-1], *args)

    monkeypatch.setattr(Vocabulary, "train", staticmethod(spy))
    pairs = [(f"{n} one {n}", f"{n} eno {n}") for n in range(200)]
    for seed in (1, 1, 2):
        folder = tmp_path / str(len(samples))
        run(folder, source_of(pairs), SETTINGS._replace(vocab_sample=50, seed=seed))
    assert samples[0] == samples[1] != samples[2]
    assert len(samples[0]) == 100
    places = [int(line.split()[0]) for line in samples[0]]
    assert places[:50] == sorted(set(places)) == places[50:]
    assert samples[0] == [pairs[n][0] for n in places[:50]] + [pairs[n][1] for n in places[50:]]


@pytest.mark.parametrize("stop_at", range(6))
def test_continues_from_finished_parts_to_the_same_result(
    tmp_path, small_parts, monkeypatch, stop_at
):
    source = source_of(pairs_of(30))
    expected = run(tmp_path / "whole", source)
    encode = text_building.encode_part
    numbers = []

    def stopping(part):
        numbers.append((part.split, part.number))
        if len(numbers) == stop_at + 1:
            raise KeyboardInterrupt
        encode(part)

    with monkeypatch.context() as patch:
        patch.setattr(text_building, "encode_part", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", source)
    monkeypatch.setattr(
        text_building, "encode_part", lambda part: (numbers.append(part.number), encode(part))
    )
    before = len(numbers)
    assert run(tmp_path / "cut", GeneratedPairs("x", {})) == expected  # the text is not read again
    assert len(numbers) - before == 6 - stop_at
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def run_shard(folder: pathlib.Path, source, shard: int, num_shards: int) -> tuple[int, int]:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return build_text_shard(
        str(folder),
        str(folder / "scratch"),
        source,
        filtered(duplicates=True),
        shard=shard,
        num_shards=num_shards,
        num_workers=1,
        progress=False,
    )


def test_combined_shards_equal_the_whole(tmp_path, small_parts, monkeypatch):
    source = source_of(pairs_of(45), dev=pairs_of(13, seed=5))
    expected = run(tmp_path / "whole", source, filtered(duplicates=True))
    done = [run_shard(tmp_path / "shards", source, shard, 3) for shard in (2, 0, 1, 1)]
    assert done == [(3, 9), (6, 9), (9, 9), (9, 9)]  # 6 parts of train, 2 of dev, 1 of test
    monkeypatch.setattr(text_building, "encode_part", None)  # everything is encoded already
    combined = run(tmp_path / "shards", GeneratedPairs("x", {}), filtered(duplicates=True))
    assert combined == expected
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_combining_checks_the_shards(tmp_path, small_parts):
    source = source_of(pairs_of(20))
    run_shard(tmp_path, source, 0, 1)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    shard, result = tmp_path / "train-00001-of-00003.array_record", tmp_path / "scratch"
    other = tmp_path / "train-00002-of-00003.array_record"
    for damage, message in [
        (lambda: shard.unlink(), r"train-00001.*cannot be read \(No such file"),
        (lambda: shard.write_bytes(shard.read_bytes()[:-9]), "train-00001.*incomplete or not a"),
        (lambda: shutil.copy(other, shard), r"train-00001\S*: \d records, expected \d\. Delete "),
        (
            lambda: (result / "train-00001.npz").write_bytes(b"PK\x03\x04"),
            r"train-00001\.npz: cannot be read",
        ),
        (
            lambda: Vocabulary.train(["a b c"] * 9, 264, str(tmp_path / "vocab.model"), 0),
            "dev-00000.* was encoded with another vocabulary|train-00000.* another vocabulary",
        ),
    ]:
        for path, content in whole.items():
            path.write_bytes(content)
        damage()
        with pytest.raises(UsageError, match=message):
            run(tmp_path, source, filtered(duplicates=True))


def test_files_of_killed_workers_are_removed(tmp_path, small_parts):
    (tmp_path / "scratch").mkdir()
    left = tmp_path / "scratch/train-00000-of-00002.array_record.4711"
    left.touch()
    run(tmp_path, source_of(pairs_of(9)))
    assert not left.exists()


def test_text_is_read_again_after_an_error(tmp_path):
    def broken():
        yield from pairs_of(20)
        raise UsageError("line 21 is bad")

    with pytest.raises(UsageError, match="line 21 is bad"):
        run(tmp_path, GeneratedPairs("x", {"train": broken}))
    manifest = run(tmp_path, source_of(pairs_of(5)))
    assert decoded(tmp_path, manifest, "train") == pairs_of(5)


def test_an_empty_split_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="generated text, x: the dev split is empty"):
        run(tmp_path, source_of(pairs_of(20), dev=()))


def test_no_training_pairs_is_an_error_with_the_reasons(tmp_path):
    with pytest.raises(UsageError, match=r"(?s)no training pair is left.*9 too long"):
        run(tmp_path, source_of(pairs_of(9)), filtered(max_length=2))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_while_encoding_leaves_no_part_of_a_shard(tmp_path, monkeypatch):
    class FullDisk(RecordWriter):
        def __init__(self, path, schema):
            super().__init__("/dev/full", schema)

    with monkeypatch.context() as patch:
        patch.setattr(text_parts, "RecordWriter", FullDisk)
        with pytest.raises(OSError, match="No space left on device"):
            run(tmp_path, source_of(pairs_of(20)))
    assert not list(tmp_path.rglob("*.array_record*"))
    manifest = run(tmp_path, source_of(pairs_of(20)))
    assert decoded(tmp_path, manifest, "train") == pairs_of(20)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("fill", [0, 300_000, 600_000, 800_000])
def test_a_file_system_that_is_full_is_an_os_error_that_says_so(small_disk, fill):
    (small_disk / "fill").write_bytes(b"x" * fill)
    with pytest.raises(OSError, match="No space left on device") as caught:
        run(small_disk / "data", source_of(pairs_of(20_000)))
    assert caught.value.errno == 28
    assert not (small_disk / "data/manifest.json").exists()


def test_a_changed_vocabulary_is_detected(tmp_path, small_parts, monkeypatch):
    real = text_building._make_vocabulary

    def swap(directory, marks, settings):
        vocabulary = real(directory, marks, settings)
        Vocabulary.train(["abc def"], 280, f"{directory}/vocab.model", 0)
        return vocabulary

    monkeypatch.setattr(text_building, "_make_vocabulary", swap)
    with pytest.raises(UsageError, match=r"vocab\.model changed while it was in use"):
        run(tmp_path, source_of(pairs_of(20)))


def test_the_manifest_is_json(tmp_path):
    manifest = run(tmp_path, source_of(pairs_of(20)))
    assert json.loads(json.dumps(manifest)) == manifest
