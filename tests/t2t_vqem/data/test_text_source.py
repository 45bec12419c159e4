import gzip

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.data.text_source import (
    FilePairs,
    GeneratedPairs,
    find_pair,
    find_tfds,
    hash_file,
    read_lines,
)


def file_pairs(tmp_path, source: bytes, target: bytes) -> FilePairs:
    (tmp_path / "a.en").write_bytes(source)
    (tmp_path / "a.de").write_bytes(target)
    return FilePairs({"train": (str(tmp_path / "a.en"), str(tmp_path / "a.de"))})


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\n\nb\n", [b"a", b"", b"b"]),
        (b"a\r\nb\r\r\n\r\n", [b"a", b"b\r", b""]),
        (b"a\rb\x0bc\x0cd\x1ce\x00f\n", [b"a\rb\x0bc\x0cd\x1ce\x00f"]),
        ("a\u2028b\u2029c\x85d\n".encode(), ["a\u2028b\u2029c\x85d".encode()]),
        ("\ufeffa\n\ufeffb\n".encode(), [b"a", "\ufeffb".encode()]),
    ],
)
def test_only_a_line_feed_ends_a_line(tmp_path, data, lines, zipped):
    path = tmp_path / "text"
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert list(read_lines(str(path))) == lines


def test_text_that_is_not_utf8_names_file_and_line(tmp_path):
    path = tmp_path / "latin.de"
    path.write_bytes(b"gut\nsch\xf6n\n")
    with pytest.raises(UsageError, match=r"latin\.de, line 2: not UTF-8 \(byte 0xf6 at position 4"):
        list(read_lines(str(path)))


@pytest.mark.parametrize("cut", [5, -9, -1])
def test_a_cut_off_gzip_file_is_an_error(tmp_path, cut):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"some text\n" * 1000)[:cut])
    with pytest.raises(UsageError, match=r"text\.gz: damaged or cut-off gzip file after line"):
        list(read_lines(str(path)))


def test_a_damaged_gzip_file_is_an_error(tmp_path):
    data = bytearray(gzip.compress(bytes(range(10, 128)) * 50))
    data[len(data) // 2] ^= 255
    (tmp_path / "text.gz").write_bytes(data)
    with pytest.raises(UsageError, match=r"text\.gz: damaged or cut-off|text\.gz, line"):
        list(read_lines(str(tmp_path / "text.gz")))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"gone: cannot be read \(No such file"):
        list(read_lines(str(tmp_path / "gone")))
    with pytest.raises(UsageError, match=r"gone: cannot be read \(No such file"):
        hash_file(str(tmp_path / "gone"))


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


def test_generated_pairs_start_anew_each_time():
    source = GeneratedPairs("v1", {"dev": lambda: iter([("ä", "b"), ("c\u2028", "")])})
    expected = [("ä".encode(), b"b"), ("c\u2028".encode(), b"")]
    assert list(source.pairs("dev")) == list(source.pairs("dev")) == expected
    assert source.fingerprint() == {"generator": "v1"}


def test_a_generated_line_feed_is_a_bug():
    with pytest.raises(ValueError, match="holds a line feed"):
        list(GeneratedPairs("v1", {"dev": lambda: [("a\nb", "c")]}).pairs("dev"))


def test_finds_plain_and_gzip_files_under_the_first_stem_there_is(tmp_path):
    for name in ("val.en", "val.de.gz", "dev.en", "dev.de", "test.en"):
        (tmp_path / name).touch()
    folder = str(tmp_path)
    found = find_pair(folder, ("val", "dev"), ("en", "de"))
    assert found == (f"{folder}/val.en", f"{folder}/val.de.gz")
    assert find_pair(folder, ("valid", "dev"), ("de", "en"))[0] == f"{folder}/dev.de"


def test_missing_files_are_an_error_with_what_was_looked_for(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere: no such directory"):
        find_pair(str(tmp_path / "nowhere"), ("train",), ("en", "de"))
    with pytest.raises(UsageError, match=r"looked for train.en and train.de .* holds nothing"):
        find_pair(str(tmp_path), ("train",), ("en", "de"))
    for name in ("train.en", "train.fr.gz"):
        (tmp_path / name).touch()
    with pytest.raises(
        UsageError, match=r"unknown language 'de': looked for .* Languages there: en, fr"
    ):
        find_pair(str(tmp_path), ("train",), ("en", "de"))
    with pytest.raises(
        UsageError,
        match=r"missing file: looked for val.en and val.fr or dev.en and dev.fr .*"
        r"holds train.en, train.fr.gz",
    ):
        find_pair(str(tmp_path), ("val", "dev"), ("en", "fr"))


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
