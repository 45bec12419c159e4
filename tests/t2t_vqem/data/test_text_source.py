import os

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.data.text_source import (
    CorpusFiles,
    FilePairs,
    GeneratedPairs,
    find_files,
    hash_file,
)


def file_pairs(tmp_path, source: bytes, target: bytes) -> FilePairs:
    (tmp_path / "a.en").write_bytes(source)
    (tmp_path / "a.de").write_bytes(target)
    return FilePairs({"train": (str(tmp_path / "a.en"), str(tmp_path / "a.de"))})


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"gone: cannot be read \(No such file"):
        hash_file(str(tmp_path / "gone"))


def test_a_pipe_is_refused_where_a_file_is_read_twice(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: got a pipe or a device, expected a file"):
        hash_file(str(tmp_path / "pipe"))


def test_pairs_lines_of_two_files(tmp_path):
    source = file_pairs(tmp_path, b"one\ntwo\n", b"eins\nzwei")
    assert list(source.pairs("train")) == [(b"one", b"eins"), (b"two", b"zwei")]
    assert "a.en" in source.describe()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"a\nb\nc\n", b"a\n", r"a\.en has 3 lines, \S*a\.de has 1;.* Line 2 is the first"),
        (b"a\nb\n", b"a\nb\nc\nd\ne\n", r"a\.en has 2 lines, \S*a\.de has 5;.* Line 3 is"),
        (b"", b"a\nb\n", r"a\.en has 0 lines, \S*a\.de has 2;.* Line 1 is the first"),
        (b"", b"", r"a\.en and \S*a\.de are empty"),
    ],
)
def test_files_that_do_not_match_are_an_error(tmp_path, source, target, message):
    with pytest.raises(UsageError, match=message):
        list(file_pairs(tmp_path, source, target).pairs("train"))


def test_the_fingerprint_follows_the_content(tmp_path):
    before = file_pairs(tmp_path, b"a\n", b"b\n").fingerprint()
    assert file_pairs(tmp_path, b"a\n", b"b\n").fingerprint() == before
    after = file_pairs(tmp_path, b"a\n", b"c\n").fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"train target"}


@pytest.mark.parametrize(
    ("text", "paths", "weight"),
    [
        ("a.en|a.de*2", ("a.en", "a.de"), 2.0),
        (" b.tsv*0.5 ", ("b.tsv",), 0.5),
        ("b c.tmx.gz", ("b c.tmx.gz",), 1.0),
        ("a*2.en|a.de*.25", ("a*2.en", "a.de"), 0.25),
    ],
)
def test_a_corpus_is_files_and_a_weight(text, paths, weight):
    assert CorpusFiles.parse(text) == (paths, weight)


@pytest.mark.parametrize("text", ["a.en", "a.en|b|c", "", "a.tsv*0", "a.tsv*1001", "a.en|*2", "*2"])
def test_what_is_no_corpus_is_refused(text):
    with pytest.raises(UsageError, match=r"expected SOURCE\|TARGET or a file that ends in .tsv"):
        CorpusFiles.parse(text)


def test_corpora_follow_each_other(tmp_path):
    first = file_pairs(tmp_path, b"a\nb\n", b"c\nd\n").files["train"][0]
    (tmp_path / "b.tsv").write_text("e\tf\n")
    source = FilePairs({"train": [first, CorpusFiles((f"{tmp_path}/b.tsv",), 2.0)]}, ("en", "de"))
    assert list(source.pairs("train")) == [(b"a", b"c"), (b"b", b"d"), (b"e", b"f")]
    assert [corpus.weight for corpus in source.corpora("train")] == [1, 2]
    assert list(source.fingerprint()) == ["train source", "train target", "train 1 text"]


def test_generated_pairs_start_anew_each_time():
    source = GeneratedPairs("v1", {"dev": lambda: iter([("ä", "b"), ("c\u2028", "")])})
    expected = [("ä".encode(), b"b"), ("c\u2028".encode(), b"")]
    assert list(source.pairs("dev")) == list(source.pairs("dev")) == expected
    assert source.fingerprint() == {"generator": "v1"}


def test_a_generated_line_feed_is_a_bug():
    with pytest.raises(ValueError, match="pair with a line feed, expected one line"):
        list(GeneratedPairs("v1", {"dev": lambda: [("a\nb", "c")]}).pairs("dev"))


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".bz2", ".zst"])
def test_finds_plain_and_compressed_files_under_the_first_stem_there_is(tmp_path, suffix):
    for name in ("val.en", f"val.de{suffix}", "dev.en", "dev.de", "test.en"):
        (tmp_path / name).touch()
    folder = str(tmp_path)
    found = find_files(folder, ("val", "dev"), ("en", "de"))
    assert found == (f"{folder}/val.en", f"{folder}/val.de{suffix}")
    assert find_files(folder, ("valid", "dev"), ("de", "en"))[0] == f"{folder}/dev.de"


def test_missing_files_are_an_error_with_what_was_looked_for(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere: no such directory"):
        find_files(str(tmp_path / "nowhere"), ("train",), ("en", "de"))
    with pytest.raises(UsageError, match=r"looked for train.en and train.de .* holds nothing"):
        find_files(str(tmp_path), ("train",), ("en", "de"))
    for name in ("train.en", "train.fr.xz"):
        (tmp_path / name).touch()
    with pytest.raises(
        UsageError, match=r"unknown language 'de': looked for .* Languages there: en, fr"
    ):
        find_files(str(tmp_path), ("train",), ("en", "de"))
    with pytest.raises(
        UsageError,
        match=r"missing file: looked for val.en and val.fr or dev.en and dev.fr .*"
        r"holds train.en, train.fr.xz",
    ):
        find_files(str(tmp_path), ("val", "dev"), ("en", "fr"))


@pytest.mark.parametrize("name", ["train.tsv", "train.tsv.gz", "train.tmx", "train.jsonl.zst"])
def test_finds_one_file_with_both_languages(tmp_path, name):
    for other in (name, "dev.tsv", "train.en"):
        (tmp_path / other).touch()
    found = find_files(str(tmp_path), ("train",), ("en", "de"))
    assert found == (str(tmp_path / name),)
    (tmp_path / "train.de").touch()
    assert len(find_files(str(tmp_path), ("train",), ("en", "de"))) == 2


@pytest.mark.parametrize("name", ["train.csv", "train.json.gz"])
def test_formats_that_are_not_read_are_named(tmp_path, name):
    (tmp_path / name).touch()
    message = f"{name}: this format is not supported, expected train.en and train.de, .* one file"
    with pytest.raises(UsageError, match=message):
        find_files(str(tmp_path), ("train",), ("en", "de"))
