import bz2
import gzip
import io
import lzma
import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2t_vqem.constants import UsageError
from t2t_vqem.data.lines import lines_of, read_blocks, read_lines, read_stream

COMPRESS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": lambda data: pytest.importorskip("backports.zstd").compress(data),
}
compressed = pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind != "plain"])


@pytest.mark.parametrize("kind", COMPRESS)
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
        ("\ufeff".encode(), []),
        ("\ufeff\ufeff".encode(), ["\ufeff".encode()]),
        (b"BZh9 is no archive\n", [b"BZh9 is no archive"]),
        (b"a\x00\n", [b"a\x00"]),
    ],
)
def test_only_a_line_feed_ends_a_line(tmp_path, data, lines, kind):
    path = tmp_path / "text"
    path.write_bytes(COMPRESS[kind](data))
    assert list(read_lines(str(path))) == lines


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_text_that_begins_with_a_byte_order_mark_is_decoded(tmp_path, encoding, kind):
    lines = ["Straße\u2028\r", "", "ഊ \u0a0d😀", "last"]  # with bytes that are line feeds elsewhere
    text = "".join(f"{line}\n" for line in lines)
    data = text.encode(encoding) if encoding == "utf-8-sig" else f"\ufeff{text}".encode(encoding)
    path = tmp_path / "text"
    path.write_bytes(COMPRESS[kind](data))
    expected = [line.removesuffix("\r").encode() for line in lines]
    assert list(read_lines(str(path))) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))))
def test_utf16_gives_the_lines_of_utf8(lines):
    text = "".join(f"{line}\n" for line in lines)
    utf8 = list(lines_of(io.BytesIO(b"\xef\xbb\xbf" + text.encode()), "text"))
    assert list(lines_of(io.BytesIO(text.encode("utf-16")), "text")) == utf8
    assert utf8 == [line.removesuffix("\r").encode() for line in lines]


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_pipe_is_read_like_a_file(tmp_path, kind):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = COMPRESS[kind](b"a\nb\n" * 50_000)  # more than a pipe holds
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    assert list(read_lines(str(path))) == [b"a", b"b"] * 50_000
    writer.join(10)


def test_text_that_is_not_utf8_names_file_and_line(tmp_path):
    path = tmp_path / "latin.de"
    path.write_bytes(b"gut\nsch\xf6n\n")
    with pytest.raises(UsageError, match=r"latin\.de, line 2: not UTF-8 \(byte 0xf6 at position 4"):
        list(read_lines(str(path)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("Straße".encode("utf-16-le"), "UTF-16 without a byte-order mark: iconv -f UTF-16LE"),
        ("Straße".encode("utf-16-be"), "UTF-16 without a byte-order mark: iconv -f UTF-16BE"),
        (b"\x04\x22\x4d\x18", "compressed by lz4"),
        (b"PK\x03\x04\x14", "a zip archive"),
        (b"\xff\xfea", "damaged or truncated utf-16.* after line 0"),
    ],
)
def test_what_is_not_read_is_told_by_its_name(tmp_path, data, message):
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"{path}: .*{message}"):
        list(read_lines(str(path)))


@compressed
@pytest.mark.parametrize("cut", [20, -9, -1])
def test_a_cut_off_file_is_an_error(tmp_path, cut, kind):
    path = tmp_path / "text"
    path.write_bytes(COMPRESS[kind](b"some text\n" * 1000)[:cut])
    with pytest.raises(UsageError, match=f"text: damaged or truncated {kind} file after line"):
        list(read_lines(str(path)))


@compressed
def test_a_damaged_file_is_an_error(tmp_path, kind):
    data = bytearray(COMPRESS[kind](bytes(range(11, 128)) * 50))
    data[len(data) // 2] ^= 255
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(UsageError, match=r"text: damaged or truncated|text, line"):
        list(read_lines(str(tmp_path / "text")))


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_blocks_hold_the_same_text_as_lines(tmp_path, encoding, kind):
    text = "Straße\u2028😀" * 20_000 + "\nlast\r\n"
    path = tmp_path / "text"
    path.write_bytes(COMPRESS[kind](text.encode(encoding)))
    blocks = list(read_blocks(str(path)))
    assert b"".join(blocks) == text.encode()
    assert max(map(len, blocks)) < 1 << 18
    path.write_bytes(path.read_bytes()[:-1])
    if kind != "plain" or encoding == "utf-16":
        with pytest.raises(UsageError, match=r"text: damaged or truncated .* after line [012]"):
            list(read_blocks(str(path)))


def test_without_the_extra_zstd_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    (tmp_path / "text").write_bytes(b"\x28\xb5\x2f\xfd\x04")
    with pytest.raises(UsageError, match=r"pip install 't2t-vqem\[zst\]'"):
        list(read_lines(str(tmp_path / "text")))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"gone: cannot be read \(No such file"):
        list(read_lines(str(tmp_path / "gone")))


def test_stream_gives_lines_and_names_the_bad_one():
    lines = read_stream(io.BytesIO("\ufeffeins\u2028\r\n\nzwei\nStra".encode() + b"\xdfe"), "input")
    assert [next(lines) for _ in range(3)] == ["eins\u2028", "", "zwei"]
    with pytest.raises(UsageError, match=r"input, line 4: not UTF-8 \(byte 0xdf at position 5\)"):
        next(lines)


@pytest.mark.parametrize(
    ("data", "name"),
    [("a\n".encode("utf-16"), "UTF-16"), (gzip.compress(b"a\n"), "gzip")],
    ids=["UTF-16", "gzip"],
)
def test_stream_of_something_else_is_named(data, name):
    with pytest.raises(UsageError, match=f"input: got {name}, expected typed lines in UTF-8"):
        next(read_stream(io.BytesIO(data), "input"))


def test_stream_does_not_wait_for_more_than_a_line():
    class Impatient(io.RawIOBase):
        """Fails when it is asked again before the first line was taken."""

        def readable(self):
            return True

        taken = False

        def readline(self, size=-1):
            assert self.taken is not None
            if not self.taken:
                self.taken = None
            return b"eins\n"

    stream = Impatient()
    lines = read_stream(stream, "input")
    assert next(lines) == "eins"
    stream.taken = True
    assert next(lines) == "eins"
