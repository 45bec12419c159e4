"""Encodes a part of a parallel text: a range of lines, which becomes one shard of records."""

from __future__ import annotations

import functools
import itertools
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from t2t_vqem.constants import INPUTS, SPLITS, TARGETS, TRAIN, UsageError
from t2t_vqem.data.filters import Filters
from t2t_vqem.data.groups import GROUP_SIZES, grouped_lengths
from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.records import Field, RecordWriter, Schema
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.data.workers import check_parent
from t2t_vqem.files import replacing, writing

VOCABULARY = "vocab.model"
DUPLICATES = "duplicates.npy"  # in the folder for temporary files: which training pairs are
# What a user's vocabulary makes of one side of the text, counted in dropped lines too.
ALTERED = ("characters in bytes", "lines with bytes", "changed lines")
_CHUNK_LINES = 256  # lines encoded in one call


class TextSettings(NamedTuple):
    """Settings of the encoding; the fields have the meaning of those in `TextConfig`."""

    languages: tuple[str, str]
    vocab_size: int
    vocab_sample: int
    filters: Filters
    seed: int
    sentencepiece_model: str = ""


class Part(NamedTuple):
    """A range of lines of one split, which becomes one shard."""

    directory: str
    scratch: str
    split: str
    number: int
    num_parts: int
    num_lines: int
    texts: tuple[str, str]
    offsets: tuple[int, int]  # bytes, in the two texts
    settings: TextSettings
    vocabulary_hash: str
    first_line: int  # number of its first line in the split
    ends: tuple[int, ...]  # of the split's corpora: number of the first line after each

    @property
    def shard(self) -> str:
        return f"{self.split}-{self.number:05}-of-{self.num_parts:05}.array_record"

    @property
    def result(self) -> str:
        """The file that marks the part as finished and has its lengths and counts."""
        return os.path.join(self.scratch, f"{self.split}-{self.number:05}.npz")


def schema(vocab_size: int) -> Schema:
    """Returns the schema of a pair: ids without EOS, in the smallest type that is large enough."""
    dtype = "uint16" if vocab_size <= 1 << 16 else "int32"
    return Schema([Field(INPUTS, dtype, (None,)), Field(TARGETS, dtype, (None,))])


class PartResult(NamedTuple):
    """What is known about a part.

    Attributes:
        lengths: of the pairs that are kept, with EOS, int32 [n, 2 + groups]: source, target, and
            grouped target.
        dropped: number of pairs for each of `Filters.reasons`.
        altered: numbers of ALTERED for each side, [2, 3].
        kept: number of pairs of each corpus.
        vocabulary: hash of the vocabulary.
    """

    lengths: np.ndarray
    dropped: list[int]
    altered: list[list[int]]
    kept: list[int]
    vocabulary: str


def read_result(part: Part) -> PartResult:
    """Returns the result of an encoded part.

    Raises:
        UsageError: it is damaged, or the part was encoded with another vocabulary.
    """
    remedy = f"Delete {part.directory} and run t2t-datagen again."
    try:
        with np.load(part.result) as file:
            result = PartResult(file["lengths"], **json.loads(str(file["about"])))
    except (OSError, ValueError, LookupError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{part.result}: cannot be read ({error}). {remedy}") from error
    if result.vocabulary != part.vocabulary_hash:
        raise UsageError(
            f"{part.shard} was encoded with another vocabulary (hash "
            f"{result.vocabulary[:12]}, expected {part.vocabulary_hash[:12]}). {remedy}"
        )
    return result


def encode_part(part: Part) -> None:
    """Encodes the lines of a part and writes its shard, in a worker process."""
    vocabulary = _vocabulary(os.path.join(part.directory, VOCABULARY), part.vocabulary_hash)
    shard = os.path.join(part.directory, part.shard)
    record_schema = schema(vocabulary.size)
    encoder = _Encoder(part, vocabulary, record_schema.fields[0].dtype)
    # Shared, because a worker whose parent was killed may still be writing the same part.
    with (
        replacing(shard, folder=part.scratch, shared=True) as unfinished,
        RecordWriter(unfinished, record_schema) as writer,
    ):
        for lines in _chunks(part):
            check_parent()
            for pair in encoder.encode(lines):
                writer.write(pair)
    result = encoder.result()._asdict()
    with writing(part.result, shared=True) as file:
        np.savez(file, lengths=result.pop("lengths"), about=np.array(json.dumps(result)))


class _Encoder:
    """Encodes and filters pairs, and keeps account of them."""

    def __init__(self, part: Part, vocabulary: Vocabulary, dtype: str):
        self._part, self._vocabulary, self._dtype = part, vocabulary, np.dtype(dtype)
        self._filters = part.settings.filters
        self._held_out = _held_out(part)
        self._duplicates = _duplicates(part)
        self._line = 0  # number of the next line in the part
        self._kept: list[int] = []  # numbers of the lines that are kept
        self._lengths = [np.zeros([0, 2 + len(GROUP_SIZES)], np.int32)]
        self._dropped: Counter[str] = Counter()
        self._altered = np.zeros([2, len(ALTERED)], np.int64)

    def encode(self, lines: tuple[list[str], list[str]]) -> list[dict[str, np.ndarray]]:
        """Returns the records of the next pairs, without those that are dropped."""
        ids = [self._vocabulary.encode(side) for side in lines]
        if self._part.settings.sentencepiece_model:
            for side in range(2):
                self._altered[side] += self._alterations(lines[side], ids[side])
        training, held_out, dtype = self._part.split == TRAIN, self._held_out, self._dtype
        duplicates = self._duplicates
        kept = []
        for line, (source, target, left, right) in enumerate(
            zip(*ids, *lines, strict=True), self._line
        ):
            if training:
                duplicate = duplicates is not None and duplicates[line]
                size = len(source) + 1, len(target) + 1  # with EOS
                reason = self._filters.reason(left, right, size, duplicate, held_out)
                if reason:
                    self._dropped[reason] += 1
                    continue
            kept.append({INPUTS: np.array(source, dtype), TARGETS: np.array(target, dtype)})
            self._kept.append(line)
        self._line += len(lines[0])
        self._lengths.append(self._measure(kept))
        return kept

    def _measure(self, pairs: list[dict[str, np.ndarray]]) -> np.ndarray:
        """Returns lengths with EOS, int32 [n, 2 + groups]: source, target, and grouped target."""
        plain = [[len(pair[side]) + 1 for side in (INPUTS, TARGETS)] for pair in pairs]
        grouped = grouped_lengths([pair[TARGETS] for pair in pairs], self._vocabulary.word_starts)
        return np.concatenate([np.array(plain, np.int32).reshape(-1, 2), grouped], 1)

    def _alterations(self, lines: list[str], ids: list[list[int]]) -> list[int]:
        """Returns how much of the text the vocabulary cannot represent as it is; see ALTERED."""
        decode, byte_starts = self._vocabulary.decode, self._vocabulary.byte_starts
        in_bytes = [int(byte_starts[row].sum()) for row in ids]
        changed = sum(decode(row) != line for line, row in zip(lines, ids, strict=True))
        return [sum(in_bytes), sum(count > 0 for count in in_bytes), changed]

    def result(self) -> PartResult:
        """Returns what is known about all pairs so far."""
        numbers = self._part.first_line + np.array(self._kept, np.int64)
        corpora = np.searchsorted(self._part.ends, numbers, side="right")
        return PartResult(
            np.concatenate(self._lengths),
            [self._dropped[reason] for reason in self._filters.reasons],
            self._altered.tolist(),
            np.bincount(corpora, minlength=len(self._part.ends)).tolist(),
            self._part.vocabulary_hash,
        )


def _duplicates(part: Part) -> np.ndarray | None:
    """Returns which pairs of a part occurred before; None if they are not dropped."""
    if part.split != TRAIN or not part.settings.filters.duplicates:
        return None
    flags = np.load(os.path.join(part.scratch, DUPLICATES), mmap_mode="r")
    return flags[part.first_line : part.first_line + part.num_lines]


def _held_out(part: Part) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the lines of dev and test of each language; none if they may be in train too."""
    if part.split != TRAIN or not part.settings.filters.held_out:
        return frozenset(), frozenset()
    splits = [split for split in SPLITS if split != TRAIN]
    return tuple(
        frozenset(
            line.decode()
            for split in splits
            for line in read_lines(os.path.join(part.directory, f"{split}.{code}"))
        )
        for code in part.settings.languages
    )


def _chunks(part: Part) -> Iterator[tuple[list[str], list[str]]]:
    """Yields the lines of a part in chunks."""
    with open(part.texts[0], "rb") as left, open(part.texts[1], "rb") as right:
        left.seek(part.offsets[0])
        right.seek(part.offsets[1])
        for start in range(0, part.num_lines, _CHUNK_LINES):
            count = min(_CHUNK_LINES, part.num_lines - start)
            yield tuple(
                [line[:-1].decode() for line in itertools.islice(file, count)]
                for file in (left, right)
            )


@functools.lru_cache(maxsize=1)
def _vocabulary(path: str, model_hash: str) -> Vocabulary:
    """Returns the vocabulary, loaded once per process and hash.

    A new vocabulary may be at the path of an old one, so the hash is compared.
    """
    vocabulary = Vocabulary(path)
    if vocabulary.hash != model_hash:
        raise UsageError(f"{path} changed while it was in use. Run t2t-datagen again.")
    return vocabulary
