"""Which training pairs are dropped, and the reasons.

A pair that several filters would drop counts for the first reason in the order of `REASONS`.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

# Each reason with its words in the report.
REASONS = {
    "empty": "with an empty side",
    "too long": "too long (over {max_length} tokens)",
    "ratio": "by ratio (one side over {max_ratio:g} times the other)",
    "copy": "with a target equal to the source",
    "duplicate": "that occurred before",
    "held out": "with a side that is in dev or test",
    "script": "in another script",
}
SCRIPTS = (  # first words of the names of Unicode's letters
    *("arabic", "armenian", "bengali", "cjk", "cyrillic", "devanagari", "ethiopic", "georgian"),
    *("greek", "gujarati", "gurmukhi", "hangul", "hebrew", "hiragana", "kannada", "katakana"),
    *("khmer", "lao", "latin", "malayalam", "mongolian", "myanmar", "oriya", "sinhala"),
    *("tamil", "telugu", "thai", "tibetan"),
)
HASH_BYTES = 8
_GROUP = 1 << 19  # hashes that are sorted at once
_MAX_GROUPS = 64
_BLOCK = 1 << 17  # hashes that are read at once


class Filters(NamedTuple):
    """The filters of training pairs. The lengths are in tokens with EOS."""

    max_length: int
    max_ratio: float  # 0: any
    copies: bool = False
    duplicates: bool = False
    held_out: bool = False
    scripts: tuple[str, str] = ("", "")  # names joined by "+"; "": any

    @property
    def reasons(self) -> list[str]:
        """The reasons that can occur."""
        on = {
            "copy": self.copies,
            "duplicate": self.duplicates,
            "held out": self.held_out,
            "script": any(self.scripts),
        }
        return [reason for reason in REASONS if on.get(reason, True)]

    def reason(
        self,
        source: str,
        target: str,
        size: tuple[int, int],
        duplicate: bool = False,
        held_out: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset()),
    ) -> str | None:
        """Returns the reason to drop a pair; None to keep it.

        Args:
            source: the line in the source language.
            target: the line in the target language.
            size: their numbers of tokens, with EOS.
            duplicate: whether the pair occurred before.
            held_out: the lines of dev and test, of each language.
        """
        if not source.strip() or not target.strip():
            return "empty"
        if max(size) > self.max_length:
            return "too long"
        if self.max_ratio and max(size) > self.max_ratio * min(size):
            return "ratio"
        if self.copies and source == target:
            return "copy"
        if duplicate:
            return "duplicate"
        if source in held_out[0] or target in held_out[1]:
            return "held out"
        for line, script in zip((source, target), self.scripts, strict=True):
            if script and not is_in_script(line, script):
                return "script"
        return None

    def describe(self, dropped: dict[str, int]) -> str:
        """Returns the line of the report about the pairs dropped for each reason."""
        limits = {"max_length": self.max_length, "max_ratio": self.max_ratio}
        counts = [f"{count:,} {REASONS[why].format(**limits)}" for why, count in dropped.items()]
        return f"dropped {sum(dropped.values()):,}: {', '.join(counts)}"


def is_in_script(text: str, scripts: str) -> bool:
    """Returns whether at least half of the letters are of one of the scripts.

    Args:
        text: the text; without letters it is in every script.
        scripts: names of `SCRIPTS`, joined by "+".
    """
    names = scripts.split("+")
    if text.isascii():
        return "latin" in names or not any(map(str.isalpha, text))
    found = [script for script in map(_script, text) if script]
    return 2 * sum(script in names for script in found) >= len(found)


@functools.cache
def _script(char: str) -> str:
    """Returns the script of a letter; "" for other characters."""
    if not char.isalpha():
        return ""
    words = unicodedata.name(char, "").lower().split()
    return next((word for word in words if word in SCRIPTS), "other")


def hash_pair(source: bytes, target: bytes) -> bytes:
    """Returns the hash by which duplicates are found, `HASH_BYTES` long.

    Two of 50 million different pairs have the same hash with a probability of 1 in 15,000.
    """
    return hashlib.blake2b(source + b"\n" + target, digest_size=HASH_BYTES).digest()


def find_duplicates(path: str) -> np.ndarray:
    """Returns which hashes of a file occurred before, bool [n].

    Needs at most 16 bytes of memory for each pair, and about 2 for many: hashes are sorted in
    groups, each with the hashes of one remainder.

    Args:
        path: file of the hashes of all pairs.
    """
    total = sum(len(block) for block in _blocks(path))
    duplicate = np.zeros(total, bool)
    groups = min(_MAX_GROUPS, 1 + total // _GROUP)
    for group in range(groups):
        numbers, hashes = [], []
        start = 0
        for block in _blocks(path):
            chosen = np.flatnonzero(block % np.uint64(groups) == group)
            numbers.append((start + chosen).astype(np.uint32 if total < 1 << 32 else np.uint64))
            hashes.append(block[chosen])
            start += len(block)
        duplicate[_repeated(np.concatenate(numbers), np.concatenate(hashes))] = True
    return duplicate


def _repeated(numbers: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Returns the numbers whose hash occurs before; `numbers` are in ascending order."""
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    return numbers[order[1:][hashes[1:] == hashes[:-1]]]


def _blocks(path: str) -> Iterable[np.ndarray]:
    with open(path, "rb") as file:
        while len(block := np.fromfile(file, np.uint64, _BLOCK)):
            yield block
