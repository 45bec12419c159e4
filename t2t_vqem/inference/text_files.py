r"""Reads and writes text files in which only `\n` ends a line.

Python's text mode also splits at a carriage return, and `str.splitlines` at nine more characters. A
corpus with one of these characters inside a sentence would lose its alignment.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import itertools
import lzma
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

from t2t_vqem.data.lines import SUFFIXES, lines_of
from t2t_vqem.data.lines import read_lines as read_bytes
from t2t_vqem.extras import import_extra
from t2t_vqem.files import is_special, writing


class Lines(Protocol):
    """Lines of text that can be read starting at any line.

    Attributes:
      num_lines: number of lines.
      sha256: digest of the bytes of the lines, in hexadecimal.
    """

    num_lines: int
    sha256: str

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on, without their end."""


class TextFile:
    r"""`Lines` of a file, read by `data.lines.read_lines` and checked completely when opened.

    The check ensures that an invalid byte in the last line does not cost hours of decoding. The
    file is never completely in memory. A last line without `\n` counts as a line.

    Raises:
      UsageError: the file cannot be read, or a line is not UTF-8 (the message names the line).
    """

    def __init__(self, path: str):
        self.path = path
        self.num_lines = 0
        digest = hashlib.sha256()
        for line in read_bytes(path):
            digest.update(line + b"\n")
            self.num_lines += 1
        self.sha256 = digest.hexdigest()

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on, without their end."""
        for line in itertools.islice(read_bytes(self.path), start, None):
            yield line.decode()


class LineList:
    """`Lines` in memory."""

    def __init__(self, lines: Sequence[str]):
        self._lines = lines
        self.num_lines = len(lines)
        self.sha256 = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on."""
        return itertools.islice(self._lines, start, None)


def read_lines(path: str) -> list[str]:
    """Returns all lines of a file, which may be a pipe; raises the errors of `TextFile`."""
    return [line.decode() for line in read_bytes(path)]


def open_lines(path: str) -> Lines:
    """Returns the lines of a file; "-" is standard input.

    The lines of a pipe are kept in memory, because it can be read only once.

    Raises:
      UsageError: as in `TextFile`.
    """
    if path == "-":
        return LineList([line.decode() for line in lines_of(sys.stdin.buffer, "standard input")])
    return LineList(read_lines(path)) if is_special(path) else TextFile(path)


def is_compressed(path: str) -> bool:
    """Returns whether an output is compressed, depending on the suffix of its name."""
    return path.endswith(tuple(filter(None, SUFFIXES)))


@contextlib.contextmanager
def open_output(path: str) -> Iterator[BinaryIO]:
    """Opens a file to write, compressed if the name says so; see `files.writing`.

    The same content gives the same bytes.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(writing(path))
        if path.endswith(".gz"):  # without name and time, so that the bytes are reproducible
            yield stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
        elif path.endswith(".zst"):
            zstd = import_extra("backports.zstd", "zst")
            yield stack.enter_context(zstd.open(raw, "wb"))
        elif is_compressed(path):
            yield stack.enter_context((lzma if path.endswith(".xz") else bz2).open(raw, "wb"))
        else:
            yield raw


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Writes lines to a file; see `open_output`."""
    with open_output(path) as file:
        file.writelines(f"{line}\n".encode() for line in lines)
