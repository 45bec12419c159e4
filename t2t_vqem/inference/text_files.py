r"""Text files in which `\n`, and nothing else, ends a line.

Python's text mode also splits at a carriage return, and `str.splitlines` at nine more characters; a
corpus that holds one of them inside a sentence would lose its alignment.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

from t2t_vqem.constants import UsageError
from t2t_vqem.data import text_source

# Everything at which str.splitlines() breaks a line.
_LINE_SEPARATOR = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")


def one_line(text: str) -> str:
    """Returns `text` with every line separator made a space: one line for every reader."""
    return _LINE_SEPARATOR.sub(" ", text)


class Lines(Protocol):
    """Lines of text that can be read from any line on.

    Attributes:
      num_lines: How many there are.
      sha256: Digest of their bytes, in hex.
    """

    num_lines: int
    sha256: str

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on, without their end."""


class TextFile:
    r"""`Lines` of a UTF-8 file, plain or gzip, checked whole when opened.

    Checking first means that a bad byte in the last line costs no hours of decoding. The file is
    never held in memory. A last line without `\n` counts as a line.

    Raises:
      UsageError: the file cannot be read, or a line is not UTF-8 (the message names the line).
    """

    def __init__(self, path: str):
        self.path = path
        self.num_lines = 0
        digest = hashlib.sha256()
        for line in text_source.read_lines(path):
            digest.update(line + b"\n")
            self.num_lines += 1
        self.sha256 = digest.hexdigest()

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on, without their end."""
        for line in itertools.islice(text_source.read_lines(self.path), start, None):
            yield line.decode()


class LineList:
    """`Lines` that are held in memory."""

    def __init__(self, lines: Sequence[str]):
        self._lines = lines
        self.num_lines = len(lines)
        self.sha256 = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on."""
        return itertools.islice(self._lines, start, None)


def read_lines(path: str) -> list[str]:
    """Returns all lines of a UTF-8 file, plain or gzip; errors are those of `TextFile`."""
    return [line.decode() for line in text_source.read_lines(path)]


def read_stream(stream: BinaryIO, name: str) -> Iterator[str]:
    r"""Yields the lines of a pipe or terminal as they arrive, without `\n` or `\r\n`.

    Raises:
      UsageError: a line is not UTF-8.
    """
    # Not `for line in stream`, which would wait for a buffer to fill.
    for number, raw in enumerate(iter(stream.readline, b""), start=1):
        try:
            yield raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{name}, line {number}: not UTF-8 (byte 0x{raw[error.start]:02x} at position "
                f"{error.start + 1}); convert the text first, for example with "
                "iconv -f ISO-8859-1 -t UTF-8"
            ) from error


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Writes lines to a new file, gzip if `path` ends in .gz, and renames it into place."""
    unfinished = f"{path}.unfinished"
    with open(unfinished, "wb") as raw:
        if path.endswith(".gz"):
            # No name and no time in the header: the same lines give the same bytes.
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
                file.writelines(f"{line}\n".encode() for line in lines)
        else:
            raw.writelines(f"{line}\n".encode() for line in lines)
        raw.flush()
        os.fsync(raw.fileno())
    os.replace(unfinished, path)
