"""Reads parallel text: two files of lines, or one file with both languages (TSV, JSON lines, TMX).

All formats may be compressed, see `lines`. Every error names the file and the line.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from xml.parsers import expat

from t2t_vqem.constants import UsageError
from t2t_vqem.data.lines import SUFFIXES, read_blocks, read_lines

_Pairs = Iterator[tuple[bytes, bytes]]
_LINE_BREAK = re.compile(r"[ \t]*(\r\n|\n)[ \t\r\n]*")
_logger = logging.getLogger(__name__)


def read_pairs(paths: Sequence[str], languages: tuple[str, str]) -> _Pairs:
    """Yields the pairs of two files, or of one file with both languages.

    Args:
        paths: the file of each language; or one file whose name ends as in `FORMATS`, also with a
            suffix of compression.
        languages: codes of the source and the target language.

    Yields:
        Source and target: UTF-8, without line feeds.

    Raises:
        UsageError: the text cannot be used; the message has file and line.
    """
    if len(paths) == 2:
        pairs = _read_two(*paths)
    else:
        pairs = FORMATS[format_of(paths[0])](paths[0], languages)
    first = next(pairs, None)
    if first is None:
        what = "one sentence on each line" if len(paths) == 2 else "pairs of sentences"
        raise UsageError(
            f"{' and '.join(paths)} {'are' if len(paths) == 2 else 'is'} empty, expected {what}."
        )
    yield first
    yield from pairs


def format_of(path: str) -> str | None:
    """Returns the suffix in `FORMATS` of a file with both languages; None for other files."""
    for suffix in filter(None, SUFFIXES):
        path = path.removesuffix(suffix)
    suffix = os.path.splitext(path)[1].lower()
    return suffix if suffix in FORMATS else None


def _read_two(source_path: str, target_path: str) -> _Pairs:
    missing = object()
    source, target = read_lines(source_path), read_lines(target_path)
    pairs = itertools.zip_longest(source, target, fillvalue=missing)
    for count, (left, right) in enumerate(pairs):
        if left is missing or right is missing:
            # The longer file has already yielded one line more than the other.
            more = count + 1 + sum(1 for _ in source) + sum(1 for _ in target)
            counts = (count, more) if left is missing else (more, count)
            raise UsageError(
                f"line counts differ: {source_path} has {counts[0]} lines, {target_path} has "
                f"{counts[1]}; line i of one must be the translation of line i of the other. "
                f"Line {count + 1} is the first without a counterpart. (Only \\n ends a line.)"
            )
        yield left, right


def _read_tsv(path: str, languages: tuple[str, str]) -> _Pairs:
    """Columns without quotes: the first two, or those that a first line names by their codes."""
    codes = [code.encode() for code in languages]
    left, right, width = 0, 1, 0
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split(b"\t")
        if len(columns) != (width or len(columns)) or len(columns) < 2:
            raise UsageError(
                f"{path}, line {number}: {len(columns)} columns, expected "
                f"{f'{width} as in line 1' if width else 'source and target, separated by a tab'}."
            )
        if not width:
            width = len(columns)
            if all(code in columns for code in codes):
                left, right = map(columns.index, codes)
                continue
        yield columns[left], columns[right]


def _read_json_lines(path: str, languages: tuple[str, str]) -> _Pairs:
    """Objects with the text of each language by its code, also inside of "translation"."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("translation"), dict):
                value = value["translation"]
            source, target = (one_line(value[code]).encode() for code in languages)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            wanted = json.dumps(dict.fromkeys(languages, "..."))
            raise UsageError(
                f"{path}, line {number}: expected an object such as {wanted}, got "
                f"{line[:80].decode(errors='replace')!r} ({type(error).__name__}: {error})."
            ) from error
        yield source, target


def one_line(text: str) -> str:
    """Replaces each line break, with the indentation after it, by a space."""
    return _LINE_BREAK.sub(" ", text)


def _read_tmx(path: str, languages: tuple[str, str]) -> _Pairs:
    reader = _TmxReader(path, languages)
    for block in read_blocks(path):
        yield from reader.feed(block)
    yield from reader.feed(b"", final=True)
    if reader.skipped:
        message = (
            f"{path}: {reader.skipped:,} of {reader.units:,} translation units have no text in "
            f"both {' and '.join(languages)}"
        )
        if reader.skipped == reader.units:
            there = ", ".join(sorted(reader.languages)) or "none"
            raise UsageError(f"{message}. Languages there: {there}.")
        _logger.warning("%s and are skipped", message)


class _TmxReader:
    """Collects the pairs of a TMX file block by block; only one translation unit is in memory.

    Entities are never declared nor loaded, so a small file cannot expand to a large text, or read
    another file.

    Attributes:
        units: number of translation units so far.
        skipped: of these, those that lack one of the languages.
        languages: the codes in the file.
    """

    # Elements in a segment that hold codes of a text processor, not text.
    _CODES = frozenset(("bpt", "ept", "it", "ph", "ut"))

    def __init__(self, path: str, languages: tuple[str, str]):
        self.units = self.skipped = 0
        self.languages: set[str] = set()
        self._path = path
        self._codes = [_normal(code) for code in languages]
        self._pairs: list[tuple[bytes, bytes]] = []
        self._root = True
        self._unit: dict[str, str] = {}  # the text of each language in the current unit
        self._language = ""
        self._text: list[str] | None = None  # inside of a segment
        self._in_codes = 0  # depth of elements that hold no text
        # `read_blocks` recodes to UTF-8, whatever encoding the file declares.
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._refuse_entity
        parser.SkippedEntityHandler = self._refuse_entity

    def feed(self, block: bytes, *, final: bool = False) -> list[tuple[bytes, bytes]]:
        """Returns the pairs that end in a block."""
        try:
            self._parser.Parse(block, final)
        except expat.ExpatError as error:
            raise UsageError(
                f"{self._path}, line {error.lineno}: not well-formed TMX "
                f"({expat.ErrorString(error.code)})."
            ) from error
        pairs, self._pairs = self._pairs, []
        return pairs

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._root and name != "tmx":
            raise self._error(f"the root element is {name}, expected tmx")
        self._root = False
        if name == "tu":
            self._unit = {}
        elif name == "tuv":
            self._language = _normal(attributes.get("xml:lang") or attributes.get("lang") or "")
        elif name == "seg":
            self._text = []
        elif name in self._CODES:
            self._in_codes += 1

    def _characters(self, text: str) -> None:
        if self._text is not None and not self._in_codes:
            self._text.append(text)

    def _end(self, name: str) -> None:
        if name in self._CODES:
            self._in_codes -= 1
        elif name == "seg" and self._text is not None:
            self._unit.setdefault(self._language, one_line("".join(self._text)).strip(" \n\t\r"))
            self._text = None
        elif name == "tu":
            self.units += 1
            self.languages.update(self._unit)
            sides = [self._side(code) for code in self._codes]
            if all(sides):
                self._pairs.append((sides[0].encode(), sides[1].encode()))
            else:
                self.skipped += 1

    def _side(self, code: str) -> str:
        """Returns the text of a language: of "en" itself, or else of the first "en-..."."""
        variants = (text for name, text in self._unit.items() if name.startswith(f"{code}-"))
        return self._unit.get(code) or next(variants, "")

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise self._error(
            f"entity {name!r}, which is never expanded, for safety; expected only &lt; &gt; &amp; "
            "&quot; &apos; and characters by their numbers"
        )

    def _error(self, message: str) -> UsageError:
        return UsageError(f"{self._path}, line {self._parser.CurrentLineNumber}: {message}.")


def _normal(code: str) -> str:
    return code.lower().replace("_", "-")


# Formats with both languages in one file, by the suffix of its name.
FORMATS: dict[str, Callable[[str, tuple[str, str]], _Pairs]] = {
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".tmx": _read_tmx,
}
