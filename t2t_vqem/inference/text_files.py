r"""Text files in which `\n`, and nothing else, ends a line.

Python's text mode also splits at a carriage return, and `str.splitlines` at eleven more
characters; a corpus that holds one of them inside a sentence would lose its alignment.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from t2t_vqem.constants import UsageError

# Everything at which str.splitlines() breaks a line.
_LINE_SEPARATOR = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")


def one_line(text: str) -> str:
    """Returns `text` with every line separator made a space: one line for every reader."""
    return _LINE_SEPARATOR.sub(" ", text)


class TextFile:
    """A UTF-8 file of lines, plain or gzip (by the suffix .gz), checked whole when opened.

    Checking first means that a bad byte in the last line costs no hours of decoding. The file
    is never held in memory.

    Attributes:
      path: Where it is.
      num_lines: How many lines it has; a last line without `\\n` counts.
      sha256: Digest of the uncompressed bytes, in hex.

    Raises:
      UsageError: the file cannot be read, or a line is not UTF-8 (the message names the line).
    """

    def __init__(self, path: str):
        self.path = path
        digest = hashlib.sha256()
        self.num_lines = 0
        with _open_binary(path) as file:
            for number, raw in enumerate(_raw_lines(file, path), start=1):
                digest.update(raw)
                decode_line(raw, path, number)
                self.num_lines = number
        self.sha256 = digest.hexdigest()

    def lines(self, start: int = 0) -> Iterator[str]:
        """Yields the lines from index `start` on, without their end of line."""
        with _open_binary(self.path) as file:
            for number, raw in enumerate(_raw_lines(file, self.path), start=1):
                if number > start:
                    yield decode_line(raw, self.path, number)


def read_lines(path: str) -> list[str]:
    """Returns all lines of a UTF-8 file, plain or gzip; errors are those of `TextFile`."""
    with _open_binary(path) as file:
        raw_lines = enumerate(_raw_lines(file, path), start=1)
        return [decode_line(raw, path, number) for number, raw in raw_lines]


def decode_line(raw: bytes, path: str, number: int) -> str:
    """Returns the text of a line without its end (`\\n` or `\\r\\n`).

    Raises:
      UsageError: the bytes are not UTF-8.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}, line {number}: not UTF-8 (byte 0x{raw[error.start]:02x} at position "
            f"{error.start + 1} of the line); convert the file first, for example with "
            "`iconv -f latin1 -t utf-8`"
        ) from None
    if number == 1:
        text = text.removeprefix("\ufeff")  # a byte order mark is not part of the sentence
    return text.removesuffix("\n").removesuffix("\r")


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


def _open_binary(path: str) -> BinaryIO:
    try:
        return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _raw_lines(file: BinaryIO, path: str) -> Iterator[bytes]:
    try:
        yield from file  # a binary file ends lines at b"\n" only
    except (EOFError, OSError, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {error}; is it complete?") from None
