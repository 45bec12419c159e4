import gzip
import io
import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2t_vqem.constants import UsageError
from t2t_vqem.data.lines import one_line
from t2t_vqem.inference.text_files import (
    LineList,
    TextFile,
    open_lines,
    read_lines,
    write_lines,
)

WILD = [
    "",
    " ",
    "a\u2028b",
    "c\x0b\x0c\x1c\x1d\x1e\x85d",
    "\u2029",
    "😀\x00\x07",
    "x" * 10_000,
    "e",
]


@given(st.text())
def test_one_line_is_one_line_and_keeps_the_rest(text):
    result = one_line(text)
    assert len(result.splitlines()) <= 1
    assert result.split() == text.split()


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_only_line_feeds_end_lines(tmp_path, end, suffix):
    path = str(tmp_path / f"wild.txt{suffix}")
    data = ("\n".join(WILD) + end).encode()
    with open(path, "wb") as file:
        file.write(gzip.compress(data) if suffix else data)
    source = TextFile(path)
    assert source.num_lines == len(WILD)
    assert list(source.lines()) == read_lines(path) == WILD
    assert list(source.lines(start=5)) == WILD[5:]
    assert source.sha256 == LineList(WILD).sha256
    assert list(LineList(WILD).lines(start=5)) == WILD[5:]


def test_windows_line_ends_do_not_belong_to_the_line(tmp_path):
    path = tmp_path / "crlf.txt"
    path.write_bytes(b"a\r\nb\rc\r\n\r\n")
    assert list(TextFile(str(path)).lines()) == ["a", "b\rc", ""]


def test_empty_file_has_no_lines(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_bytes(b"")
    assert TextFile(str(path)).num_lines == 0


def test_what_is_not_utf8_is_named_by_file_and_line(tmp_path):
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"gut\nStra\xdfe\n")
    with pytest.raises(UsageError, match=r"latin1\.txt, line 2: not UTF-8 \(byte 0xdf"):
        TextFile(str(path))


@pytest.mark.parametrize(
    "name", ["out.txt", "out.txt.gz", "out.txt.xz", "out.txt.bz2", "out.txt.zst"]
)
def test_written_lines_are_read_again(tmp_path, name):
    if name.endswith(".zst"):
        pytest.importorskip("backports.zstd")
    path = tmp_path / name
    write_lines(str(path), WILD)
    first = path.read_bytes()
    assert read_lines(str(path)) == WILD
    write_lines(str(path), WILD)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [name]
    magic = {".gz": b"\x1f\x8b", ".xz": b"\xfd7zXZ", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}
    assert first.startswith(magic.get(path.suffix, b"\n"))


def test_a_pipe_is_read_once_and_its_lines_again_and_again(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=write_lines, args=(str(path), WILD))
    writer.start()
    source = open_lines(str(path))
    writer.join(10)
    assert list(source.lines()) == list(source.lines()) == WILD
    assert source.sha256 == LineList(WILD).sha256


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_standard_input_is_read_like_a_file(monkeypatch, compress):
    data = "\ufeffeins\r\nzwei".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(compress(data))))
    assert list(open_lines("-").lines()) == ["eins", "zwei"]
