r"""Reads lines of text from plain and compressed files.

A line ends only at a line feed. A carriage return before it belongs to the line end, as in files
from Windows. Any other control character or Unicode line separator is part of the text.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NoReturn

from t2t_vqem.constants import UsageError
from t2t_vqem.extras import import_extra

SUFFIXES = ("", ".gz", ".xz", ".bz2", ".zst")  # of the files that `read_lines` supports
_BOM = b"\xef\xbb\xbf"
# Patterns for the first bytes of a file. UTF-8 text never begins with any of these.
_COMPRESSED = {
    rb"\x1f\x8b": ("gzip", gzip.open),
    rb"\xfd7zXZ\x00": ("xz", lzma.open),
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": ("zstd", lambda file: _open_zstd(file)),
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": ("bzip2", bz2.open),
}
_UTF = {
    rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff": "UTF-32",
    rb"\xff\xfe|\xfe\xff": "UTF-16",
}
_REFUSED = {
    rb"\x04\x22\x4d\x18": "compressed by lz4: decompress it first, for example with lz4 -d",
    rb"PK\x03\x04": "a zip archive: extract the text first, for example with unzip",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive: extract the text first, for example with 7z x",
    rb"(?s:[^\x00]\x00){2}": "UTF-16 without a byte-order mark: iconv -f UTF-16LE -t UTF-8",
    rb"(?s:\x00[^\x00]){2}": "UTF-16 without a byte-order mark: iconv -f UTF-16BE -t UTF-8",
}
_BEGINNING = 10  # number of bytes to compare with the patterns
# All separators at which str.splitlines() breaks a line.
_LINE_SEPARATOR = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_BLOCK = 1 << 16
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


def one_line(text: str) -> str:
    """Replaces every line separator by a space, so that every program reads one line."""
    return _LINE_SEPARATOR.sub(" ", text)


def read_lines(path: str) -> Iterator[bytes]:
    """Returns the lines of a file: UTF-8, without line ends.

    The text may be compressed by gzip, xz, bzip2 or zstd (extra "zst"). It must be UTF-8, or UTF-16
    or UTF-32 with a byte-order mark. The format is detected by the first bytes, not by the name.
    The file is opened once, so it may be a pipe.

    Raises:
        UsageError: the file cannot be read, is truncated, or is not UTF-8 (with the line).
    """
    try:
        with open(path, "rb") as file:
            yield from lines_of(file, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}).") from error


def lines_of(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Returns the lines of an open file, called `name` in messages. See `read_lines`."""
    number = 0
    with contextlib.ExitStack() as stack:
        text = _Text(file, name, stack)
        try:
            for line in text.lines():
                number += 1
                line.decode("utf-8")
                yield line.removesuffix(b"\n").removesuffix(b"\r")
        except Exception as error:
            text.explain(error, number)


def read_blocks(path: str) -> Iterator[bytes]:
    """Yields the text of a file in blocks of limited size, for text with very long lines.

    The formats are those of `read_lines`. Blocks are UTF-8 if the file begins with a byte-order
    mark; otherwise they are as they are in the file.

    Raises:
        UsageError: the file cannot be read, or is truncated.
    """
    number = 0
    try:
        with open(path, "rb") as file, contextlib.ExitStack() as stack:
            text = _Text(file, path, stack)
            try:
                for block in text.blocks():
                    number += block.count(b"\n")
                    yield block
            except Exception as error:
                text.explain(error, number)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}).") from error


class _Text:
    """An open file of text, decompressed, after its byte-order mark."""

    def __init__(self, file: BinaryIO, name: str, stack: contextlib.ExitStack):
        """Detects the format by the first bytes.

        Args:
            file: the file as it is.
            name: its name in messages.
            stack: closes what is opened.
        """
        self._name, self._kind = name, "file"
        try:
            file = _seekable(file, stack)
            self._kind, opened = _find(_COMPRESSED, _beginning(file)) or ("file", None)
            if opened:
                file = stack.enter_context(opened(file))
            beginning = _beginning(file)
            _refuse(beginning, name)
            self._encoding = _find(_UTF, beginning)
            if beginning.startswith(_BOM):
                file.seek(file.tell() + len(_BOM))
            self._file = file
        except Exception as error:
            self.explain(error, 0)

    def lines(self) -> Iterable[bytes]:
        """Returns the lines in UTF-8, with line ends."""
        if not self._encoding:
            return self._file
        text = io.TextIOWrapper(self._file, encoding=self._encoding, newline="\n")
        return (line.encode() for line in text)

    def blocks(self) -> Iterator[bytes]:
        """Yields the text in blocks."""
        if not self._encoding:
            yield from iter(lambda: self._file.read(_BLOCK), b"")
        else:
            text = io.TextIOWrapper(self._file, encoding=self._encoding, newline="\n")
            yield from (block.encode() for block in iter(lambda: text.read(_BLOCK), ""))

    def explain(self, error: Exception, number: int) -> NoReturn:
        """Raises a UsageError for the error that is being handled, if it is about the content.

        Args:
            error: the error.
            number: number of the last line before it.
        """
        if isinstance(error, UnicodeDecodeError):
            if error.encoding == "utf-8":
                raise _not_utf8(error, self._name, number) from error
            raise UsageError(
                f"{self._name}: damaged or truncated {error.encoding} after line {number} "
                f"({error.reason})."
            ) from error
        damaged = isinstance(error, _DAMAGED) or type(error).__name__ == "ZstdError"
        if damaged or (isinstance(error, OSError) and not error.errno):
            raise UsageError(
                f"{self._name}: damaged or truncated {self._kind} file after line {number} "
                f"({error}). Download it again."
            ) from error
        raise error


def _open_zstd(file: BinaryIO) -> BinaryIO:
    return import_extra("backports.zstd", "zst").open(file)


def read_stream(stream: BinaryIO, name: str) -> Iterator[str]:
    r"""Yields the lines of a pipe or terminal as they arrive, without `\n` or `\r\n`.

    Raises:
        UsageError: a line is not UTF-8.
    """
    # Not `for line in stream`, which would wait until a buffer is full.
    for number, raw in enumerate(iter(stream.readline, b""), start=1):
        if number == 1:
            _refuse(raw, name)
            raw = raw.removeprefix(_BOM)
            for known in (_COMPRESSED, _UTF):
                if found := _find(known, raw):
                    kind = found if isinstance(found, str) else found[0]
                    raise UsageError(f"{name}: got {kind}, expected typed lines in UTF-8.")
        try:
            yield raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise _not_utf8(error, name, number) from error


def _seekable(file: BinaryIO, stack: contextlib.ExitStack) -> BinaryIO:
    """Returns the file; or for a pipe, a temporary file with a copy of its content."""
    if file.seekable():
        return file
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy


def _beginning(file: BinaryIO) -> bytes:
    start = file.tell()
    beginning = file.read(_BEGINNING)
    file.seek(start)
    return beginning


def _find(known: dict, beginning: bytes):
    return next((value for key, value in known.items() if re.match(key, beginning)), None)


def _refuse(beginning: bytes, name: str) -> None:
    found = _find(_REFUSED, beginning)
    if found:
        raise UsageError(
            f"{name}: expected text, or text compressed by gzip, xz, bzip2 or zstd; {found}"
        )


def _not_utf8(error: UnicodeDecodeError, name: str, number: int) -> UsageError:
    return UsageError(
        f"{name}, line {number}: not UTF-8 (byte 0x{error.object[error.start]:02x} at position "
        f"{error.start + 1}). Convert the text first, for example with iconv -f ISO-8859-1 -t "
        "UTF-8 if it is in ISO-8859-1; the command `file` may detect the encoding."
    )


def find_compressed(path: str) -> str | None:
    """Returns `path`, or `path` with a suffix of a compressed file, whichever exists."""
    return next((path + end for end in SUFFIXES if os.path.isfile(path + end)), None)
