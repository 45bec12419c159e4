"""Sources of parallel text: files, or a program that generates pairs; see also `tfds_pairs`."""

from __future__ import annotations

import abc
import functools
import hashlib
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from t2t_vqem.constants import UsageError
from t2t_vqem.data.lines import SUFFIXES, find_compressed
from t2t_vqem.data.parallel_files import FORMATS, format_of, read_pairs
from t2t_vqem.files import is_special, same_file

_COMPRESSION = "|".join(re.escape(suffix) for suffix in SUFFIXES if suffix)
# Formats with both languages in one file that are not read, with what to do.
_OTHER_FORMATS = {
    "csv": "Write each column to a separate file.",
    "json": "Write one object on each line, to a file that ends in .jsonl, for example with jq.",
}
_SIDES = {1: ("text",), 2: ("source", "target")}  # by the number of files of a split
MAX_WEIGHT = 1000  # of a corpus; an epoch holds so many copies of its examples
_logger = logging.getLogger(__name__)


class Corpus(NamedTuple):
    """A part of a split's pairs.

    Attributes:
        name: what the report calls it.
        weight: how often an epoch of training has each pair; 0.5: in every other epoch.
        pairs: returns the pairs, see `PairSource.pairs`.
    """

    name: str
    weight: float
    pairs: Callable[[], Iterator[tuple[bytes, bytes]]]


class PairSource(abc.ABC):
    """Pairs of lines in two languages, in the splits train, dev and test."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Returns a description of the source, for messages."""

    @abc.abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Returns hashes that change when the text changes, with a name for each."""

    @abc.abstractmethod
    def pairs(self, split: str) -> Iterator[tuple[bytes, bytes]]:
        """Returns the pairs of a split in order: UTF-8, without line feeds.

        Raises:
            UsageError: the input cannot be used; the message has file and line.
        """

    def corpora(self, split: str) -> list[Corpus]:
        """Returns the parts of a split, of which `pairs` consists: by default one of weight 1."""
        return [Corpus(split, 1.0, functools.partial(self.pairs, split))]


class CorpusFiles(NamedTuple):
    """The files of a corpus: one for each language, or one with both; and its weight."""

    paths: tuple[str, ...]
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> CorpusFiles:
        """Returns the corpus of "SOURCE|TARGET*WEIGHT" or "FILE*WEIGHT"; "*WEIGHT" may be missing.

        Raises:
            UsageError: the text is something else.
        """
        files, weight = re.fullmatch(r"(.*?)(?:\*(\d+\.?\d*|\.\d+))?", text.strip()).groups()
        paths, weight = tuple(files.split("|")), float(weight or 1)
        readable = len(paths) == 2 if "|" in files else format_of(files)
        if not readable or not all(paths) or not 0 < weight <= MAX_WEIGHT:
            raise UsageError(
                f"{text!r}: expected SOURCE|TARGET or a file that ends in {', '.join(FORMATS)}; "
                f"then * and a weight above 0 and up to {MAX_WEIGHT} if it is not 1. Examples: "
                "a.en|a.de*2, b.tsv*0.5"
            )
        return cls(paths, weight)

    def __str__(self) -> str:
        return "|".join(self.paths)


class FilePairs(PairSource):
    """Files: for each split two, or one with both languages, or several corpora of such files.

    Args:
        files: for each split, the file in the source and the file in the target language, or one
            file with both, see `parallel_files`; or a list of `CorpusFiles`.
        languages: codes of the source and the target language in files with both.

    Raises:
        UsageError: both are the same file. (One file for two splits is only warned about.)
    """

    def __init__(
        self,
        files: Mapping[str, Sequence[str] | Sequence[CorpusFiles]],
        languages: tuple[str, str] = ("source", "target"),
    ):
        self._languages = languages
        self.files = {
            split: list(given) if isinstance(given[0], CorpusFiles) else [CorpusFiles(tuple(given))]
            for split, given in files.items()
        }
        sources = []
        for split, corpora in self.files.items():
            for paths, _ in corpora:
                if len(paths) == 2 and same_file(*paths):
                    raise UsageError(
                        f"{split}: source and target are the same file, {paths[0]}. Expected a "
                        "file of each language."
                    )
                sources.append((split, paths[0]))
        for (split, path), (other, other_path) in itertools.combinations(sources, 2):
            if same_file(path, other_path):
                _logger.warning("%s and %s are the same file, %s", split, other, path)

    def describe(self) -> str:
        corpora = itertools.chain(*self.files.values())
        return ", ".join(path for paths, _ in corpora for path in paths)

    def fingerprint(self) -> dict[str, str]:
        return {
            " ".join((split, *([str(number)] if number else []), side)): hash_file(path)
            for split, corpora in self.files.items()
            for number, (paths, _) in enumerate(corpora)
            for side, path in zip(_SIDES[len(paths)], paths, strict=True)
        }

    def pairs(self, split: str) -> Iterator[tuple[bytes, bytes]]:
        return itertools.chain.from_iterable(corpus.pairs() for corpus in self.corpora(split))

    def corpora(self, split: str) -> list[Corpus]:
        return [
            Corpus(
                str(files),
                files.weight,
                functools.partial(read_pairs, files.paths, self._languages),
            )
            for files in self.files[split]
        ]


class GeneratedPairs(PairSource):
    """Pairs that a program generates.

    Args:
        version: a text that must change whenever the program would generate other pairs. None to
            hash the pairs instead, which generates them twice.
        splits: for each split, a function that returns its pairs from the beginning.
    """

    def __init__(
        self, version: str | None, splits: Mapping[str, Callable[[], Iterable[tuple[str, str]]]]
    ):
        self._version = version
        self._splits = dict(splits)

    def describe(self) -> str:
        return "generated text" if self._version is None else f"generated text, {self._version}"

    def fingerprint(self) -> dict[str, str]:
        if self._version is not None:
            return {"generator": self._version}
        return {f"{split} text": self._digest(split) for split in self._splits}

    def _digest(self, split: str) -> str:
        digest = hashlib.sha256()
        for source, target in self.pairs(split):
            digest.update(source + b"\n" + target + b"\n")
        return digest.hexdigest()

    def pairs(self, split: str) -> Iterator[tuple[bytes, bytes]]:
        for source, target in self._splits[split]():
            if "\n" in source or "\n" in target:
                raise ValueError(
                    f"got a generated pair with a line feed, expected one line for each side: "
                    f"{source!r}, {target!r}"
                )
            yield source.encode(), target.encode()


def find_files(
    source_dir: str, stems: Sequence[str], languages: tuple[str, str]
) -> tuple[str, ...]:
    """Returns the files STEM.LANGUAGE of a split, plain or compressed, for the first existing stem.

    Without these it returns the one file STEM.tsv, STEM.jsonl or STEM.tmx.

    Raises:
        UsageError: there are no such files; the message has the names looked for and those found.
    """
    if not os.path.isdir(source_dir):
        raise UsageError(f"--source_dir={source_dir}: no such directory.")
    for endings in (languages, *((ending.removeprefix("."),) for ending in FORMATS)):
        for stem in stems:
            names = [os.path.join(source_dir, f"{stem}.{ending}") for ending in endings]
            found = [path for name in names if (path := find_compressed(name))]
            if len(found) == len(names):
                return tuple(found)
    raise UsageError(_missing_files(source_dir, stems, languages))


def _missing_files(source_dir: str, stems: Sequence[str], languages: tuple[str, str]) -> str:
    looked_for = " or ".join(" and ".join(f"{stem}.{code}" for code in languages) for stem in stems)
    single = ", ".join(FORMATS)
    there = sorted(os.listdir(source_dir))
    listing = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
    endings = {
        match[1]: name
        for name in there
        for stem in stems
        if (match := re.fullmatch(rf"{re.escape(stem)}\.([^.]+)({_COMPRESSION})?", name))
    }
    for ending, name in endings.items():
        if ending in _OTHER_FORMATS:
            return (
                f"{os.path.join(source_dir, name)}: this format is not supported, expected "
                f"{looked_for}, one sentence on each line, or one file ({single}). "
                f"{_OTHER_FORMATS[ending]}"
            )
    codes = sorted(endings)
    unknown = [code for code in languages if codes and code not in codes]
    return (
        (f"unknown language {unknown[0]!r}: " if unknown else "missing file: ")
        + f"looked for {looked_for} (plain, .gz, .xz, .bz2 or .zst), or one file with both "
        + f"languages ({single}), in {source_dir}, which holds "
        + (listing or "nothing")
        + (f". Languages there: {', '.join(codes)}" if unknown else "")
        + "."
    )


def hash_file(path: str) -> str:
    """Returns the SHA-256 of a file's bytes.

    Raises:
        UsageError: the file cannot be read.
    """
    if is_special(path):
        raise UsageError(
            f"{path}: got a pipe or a device, expected a file, because it is read several times. "
            "Write the text to a file first."
        )
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}).") from error
    return digest.hexdigest()
