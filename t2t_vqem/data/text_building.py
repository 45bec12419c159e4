"""Writes vocabulary and records of a parallel text data set.

There are four steps: copy and check the text of each split; train the vocabulary on a sample of the
training text; encode the text in parts, on all cores; combine the lengths and counts of the parts.
The results of a step, and of each part, are written completely or not at all, even if the process
is killed. They depend only on the text and the settings, not on the number of workers.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from t2t_vqem.constants import INPUTS, SPLITS, TARGETS, TRAIN, UsageError
from t2t_vqem.data import sentencepiece_model
from t2t_vqem.data.building import REPORT, remove_unfinished
from t2t_vqem.data.groups import GROUP_SIZES, grouped_lengths
from t2t_vqem.data.progress import Progress
from t2t_vqem.data.records import Field, RecordWriter, Schema, lengths_file
from t2t_vqem.data.text_source import Corpus, PairSource
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.data.workers import check_parent, run_tasks
from t2t_vqem.files import replacing, write_file, write_json, writing

VOCABULARY = "vocab.model"
DROP_REASONS = ("empty", "too long", "ratio")
# What a user's vocabulary makes of one side of the text, counted in dropped lines too.
_ALTERED = ("characters in bytes", "lines with bytes", "changed lines")

_MARK_LINES = 1024  # the offset of every 1024th line is stored, so that a worker finds its part
_PART_LINES = 8192  # lines in a part, more if there would be more than _MAX_PARTS parts
_MAX_PARTS = 256
_CHUNK_LINES = 256  # lines encoded in one call
_logger = logging.getLogger(__name__)


class TextSettings(NamedTuple):
    """Settings of the encoding; the fields have the meaning of those in `TextConfig`."""

    languages: tuple[str, str]
    vocab_size: int
    vocab_sample: int
    max_length: int
    max_ratio: float
    seed: int
    sentencepiece_model: str = ""


class _Part(NamedTuple):
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


def build_text(
    directory: str,
    scratch: str,
    source: PairSource,
    settings: TextSettings,
    *,
    num_workers: int,
    progress: bool,
) -> dict[str, Any]:
    """Writes vocabulary, records, lengths, dev and test text, and the report.

    Args:
        directory: the folder to write to. Finished parts of an earlier run with the same source and
            settings are reused.
        scratch: a folder for temporary files, kept between runs.
        source: the text.
        settings: how to encode the text and which pairs to drop.
        num_workers: number of processes that encode.
        progress: whether to show the progress.

    Returns:
        The entries of the manifest about the data: schema, vocabulary, splits.

    Raises:
        UsageError: the text cannot be used; the message has file and line.
        OSError: the disk is full.
    """
    marks = {}
    for split in SPLITS:
        # Training text is temporary; the text of dev and test is kept as references for scores.
        folder = scratch if split == TRAIN else directory
        marks[split] = _copy_text(folder, scratch, source, split, settings.languages, progress)
    vocabulary = _make_vocabulary(directory, marks[TRAIN], settings)
    parts = [
        part
        for split in SPLITS
        for part in _parts(directory, scratch, marks[split], settings, vocabulary.hash)
    ]
    remove_unfinished(scratch)
    _encode_parts(parts, num_workers, progress)
    splits = {
        split: _join(directory, [p for p in parts if p.split == split], source.corpora(split))
        for split in SPLITS
    }
    report = format_report(splits, settings)
    if not splits[TRAIN]["num_examples"]:
        raise UsageError(f"no training pair is left:\n{report}")
    with open(os.path.join(directory, REPORT), "w", encoding="utf-8") as file:
        file.write(report + "\n")
    return {
        "schema": schema(vocabulary.size).to_json(),
        "vocabulary": {"file": VOCABULARY, "size": vocabulary.size, "sha256": vocabulary.hash},
        "splits": splits,
    }


def schema(vocab_size: int) -> Schema:
    """Returns the schema of a pair: ids without EOS, in the smallest type that is large enough."""
    dtype = "uint16" if vocab_size <= 1 << 16 else "int32"
    return Schema([Field(INPUTS, dtype, (None,)), Field(TARGETS, dtype, (None,))])


class _Marks(NamedTuple):
    """The text files of a split, with the offsets of some lines."""

    split: str
    texts: tuple[str, str]
    offsets: list[tuple[int, int]]  # of lines 0, _MARK_LINES, 2 * _MARK_LINES, ...
    ends: list[int]  # of the corpora: number of the first line after each

    @property
    def num_lines(self) -> int:
        return self.ends[-1]


def _copy_text(
    folder: str,
    scratch: str,
    source: PairSource,
    split: str,
    languages: tuple[str, str],
    progress: bool,
) -> _Marks:
    """Copies the text of a split to files, checks it, and records the offsets of lines."""
    texts = tuple(os.path.join(folder, f"{split}.{code}") for code in languages)
    state = os.path.join(scratch, f"{split}.marks.json")
    if os.path.exists(state):
        with open(state, encoding="utf-8") as file:
            return _Marks(split, texts, *json.load(file))
    offsets = []
    position = [0, 0]
    ends = []
    num_lines = 0
    with (
        Progress(f"reading {split}", None, "lines", enabled=progress) as bar,
        open(texts[0], "wb") as left,
        open(texts[1], "wb") as right,
    ):
        for corpus in source.corpora(split):
            for pair in corpus.pairs():
                if num_lines % _MARK_LINES == 0:
                    offsets.append(tuple(position))
                num_lines += 1
                bar.advance(1)
                for side, file in enumerate((left, right)):
                    position[side] += file.write(pair[side] + b"\n")
            ends.append(num_lines)
    if not num_lines:
        raise UsageError(f"{source.describe()}: the {split} split is empty.")
    write_json(state, [offsets, ends])
    return _Marks(split, texts, offsets, ends)


def _make_vocabulary(directory: str, marks: _Marks, settings: TextSettings) -> Vocabulary:
    path = os.path.join(directory, VOCABULARY)
    if not os.path.exists(path) and settings.sentencepiece_model:
        write_file(path, sentencepiece_model.convert(settings.sentencepiece_model))
    elif not os.path.exists(path):
        count = min(settings.vocab_sample, marks.num_lines)
        _logger.info("training a vocabulary on %s pairs", f"{count:,}")
        Vocabulary.train(
            _sample_lines(marks, count, settings.seed), settings.vocab_size, path, settings.seed
        )
    vocabulary = Vocabulary(path)
    if vocabulary.size < settings.vocab_size and not settings.sentencepiece_model:
        _logger.info(
            "the text has enough different pieces for %d ids, fewer than vocab_size=%d",
            vocabulary.size,
            settings.vocab_size,
        )
    return vocabulary


def _sample_lines(marks: _Marks, count: int, seed: int) -> Iterator[str]:
    """Yields `count` random lines of each language without reading all text into memory."""
    chosen = sorted(random.Random(seed).sample(range(marks.num_lines), count))
    for text in marks.texts:
        numbers = iter(chosen)
        wanted = next(numbers, None)
        with open(text, "rb") as file:
            for number, line in enumerate(file):
                if number == wanted:
                    yield line[:-1].decode()
                    wanted = next(numbers, None)


def _parts(
    directory: str, scratch: str, marks: _Marks, settings: TextSettings, vocabulary_hash: str
) -> list[_Part]:
    """Divides a split into parts, depending only on the number of lines."""
    marks_per_part = max(_PART_LINES // _MARK_LINES, -(-len(marks.offsets) // _MAX_PARTS))
    starts = range(0, len(marks.offsets), marks_per_part)
    lines = marks_per_part * _MARK_LINES
    return [
        _Part(
            directory,
            scratch,
            marks.split,
            number,
            len(starts),
            min(lines, marks.num_lines - number * lines),
            marks.texts,
            tuple(marks.offsets[start]),
            settings,
            vocabulary_hash,
            number * lines,
            tuple(marks.ends),
        )
        for number, start in enumerate(starts)
    ]


def _encode_parts(parts: list[_Part], num_workers: int, progress: bool) -> None:
    open_parts = [part for part in parts if not os.path.exists(part.result)]
    total = sum(part.num_lines for part in parts)
    with Progress("encoding", total, "pairs", enabled=progress) as bar:
        bar.advance(total - sum(part.num_lines for part in open_parts), skipped=True)
        for number, _ in run_tasks(_encode_part, open_parts, num_workers):
            bar.advance(open_parts[number].num_lines)


def _encode_part(part: _Part) -> None:
    """Encodes the lines of a part and writes its shard, in a worker process."""
    vocabulary = _vocabulary(os.path.join(part.directory, VOCABULARY), part.vocabulary_hash)
    shard = os.path.join(part.directory, part.shard)
    lengths: list[np.ndarray] = []
    dropped: Counter[str] = Counter()
    line_number = part.first_line
    numbers: list[int] = []  # of the lines that are kept
    altered = np.zeros([2, len(_ALTERED)], np.int64)
    record_schema = schema(vocabulary.size)
    dtype = record_schema.fields[0].dtype
    # Shared, because a worker whose parent was killed may still be writing the same part.
    with (
        replacing(shard, folder=part.scratch, shared=True) as unfinished,
        RecordWriter(unfinished, record_schema) as writer,
    ):
        for lines in _chunks(part):
            check_parent()
            ids = [vocabulary.encode(side) for side in lines]
            if part.settings.sentencepiece_model:
                altered += [
                    _alterations(*side, vocabulary) for side in zip(lines, ids, strict=True)
                ]
            kept = []
            for number, (left, right, source, target) in enumerate(
                zip(*lines, *ids, strict=True), start=line_number
            ):
                size = (len(source) + 1, len(target) + 1)  # with EOS
                reason = part.split == TRAIN and _drop(left, right, size, part.settings)
                if reason:
                    dropped[reason] += 1
                    continue
                pair = {INPUTS: np.array(source, dtype), TARGETS: np.array(target, dtype)}
                writer.write(pair)
                kept.append(pair)
                numbers.append(number)
            line_number += len(lines[0])
            lengths.append(_lengths(kept, vocabulary))
    corpora = np.searchsorted(part.ends, numbers, side="right")
    kept_of = np.bincount(corpora, minlength=len(part.ends))
    _save_result(part, lengths, dropped, altered, kept_of)


def _alterations(lines: list[str], ids: list[list[int]], vocabulary: Vocabulary) -> list[int]:
    """Returns how much of the text the vocabulary cannot represent as it is; see _ALTERED."""
    in_bytes = [int(vocabulary.byte_starts[row].sum()) for row in ids]
    changed = sum(vocabulary.decode(row) != line for line, row in zip(lines, ids, strict=True))
    return [sum(in_bytes), sum(count > 0 for count in in_bytes), changed]


def _lengths(pairs: list[dict[str, np.ndarray]], vocabulary: Vocabulary) -> np.ndarray:
    """Returns lengths with EOS, int32 [n, 2 + groups]: source, target, and grouped target."""
    plain = [[len(pair[side]) + 1 for side in (INPUTS, TARGETS)] for pair in pairs]
    grouped = grouped_lengths([pair[TARGETS] for pair in pairs], vocabulary.word_starts)
    return np.concatenate([np.array(plain, np.int32).reshape(-1, 2), grouped], 1)


def _save_result(
    part: _Part,
    lengths: list[np.ndarray],
    dropped: Counter[str],
    altered: np.ndarray,
    kept: np.ndarray,
) -> None:
    with writing(part.result, shared=True) as file:
        np.savez(
            file,
            lengths=np.concatenate([np.zeros([0, 2 + len(GROUP_SIZES)], np.int32), *lengths]),
            dropped=np.array([dropped[reason] for reason in DROP_REASONS]),
            altered=altered,
            kept=kept,
        )


def _drop(left: str, right: str, size: tuple[int, int], settings: TextSettings) -> str | None:
    """Returns the reason to drop a training pair; None to keep it."""
    if not left.strip() or not right.strip():
        return "empty"
    if max(size) > settings.max_length:
        return "too long"
    if settings.max_ratio and max(size) > settings.max_ratio * min(size):
        return "ratio"
    return None


def _chunks(part: _Part) -> Iterator[tuple[list[str], list[str]]]:
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


def _join(directory: str, parts: list[_Part], corpora: list[Corpus]) -> dict[str, Any]:
    """Writes the lengths of a split and returns its entry in the manifest."""
    split = parts[0].split
    lengths, dropped = [], np.zeros(len(DROP_REASONS), np.int64)
    altered = np.zeros([2, len(_ALTERED)], np.int64)
    kept = np.zeros(len(parts[0].ends), np.int64)
    for part in parts:
        with np.load(part.result) as result:
            lengths.append(result["lengths"])
            dropped += result["dropped"]
            altered += result["altered"]
            kept += result["kept"]
    joined = np.concatenate(lengths)
    np.save(os.path.join(directory, lengths_file(split)), joined)
    found = {}
    if parts[0].settings.sentencepiece_model:
        counts = [dict(zip(_ALTERED, side, strict=True)) for side in altered.tolist()]
        found = {"altered": dict(zip((INPUTS, TARGETS), counts, strict=True))}
    if [corpus.weight for corpus in corpora] != [1.0]:
        sizes = np.diff([0, *parts[0].ends]).tolist()
        found["corpora"] = [
            {"name": name, "weight": weight, "num_lines": size, "num_examples": count}
            for (name, weight, _), size, count in zip(corpora, sizes, kept.tolist(), strict=True)
        ]
    return {
        "shards": [part.shard for part in parts],
        "num_lines": sum(part.num_lines for part in parts),
        "num_examples": len(joined),
        "dropped": dict(zip(DROP_REASONS, dropped.tolist(), strict=True)),
        "source_tokens": int(joined[:, 0].sum()),
        "target_tokens": int(joined[:, 1].sum()),
        "longest": int(joined[:, :2].max(initial=0)),
        **found,
    }


def format_report(splits: dict[str, Any], settings: TextSettings) -> str:
    """Returns the report about the splits, for people to read."""
    lines = []
    for split, numbers in splits.items():
        source, target = settings.languages
        examples = numbers["num_examples"]
        mean = numbers["target_tokens"] / max(examples, 1)
        lines.append(
            f"{split}: {examples:,} pairs of {numbers['num_lines']:,} lines; tokens with EOS: "
            f"{numbers['source_tokens']:,} {source}, {numbers['target_tokens']:,} {target} "
            f"({mean:.1f} per sentence, longest {numbers['longest']})"
        )
        for corpus in numbers.get("corpora", ()):
            lines.append(
                f"  {corpus['num_examples']:,} of {corpus['num_lines']:,} with weight "
                f"{corpus['weight']:g} from {corpus['name']}"
            )
        dropped = numbers["dropped"]
        if split == TRAIN:
            lines.append(
                f"  dropped {sum(dropped.values()):,}: {dropped['empty']:,} with an empty side, "
                f"{dropped['too long']:,} too long (over {settings.max_length} tokens), "
                f"{dropped['ratio']:,} by ratio (one side over {settings.max_ratio:g} times the "
                f"other)"
            )
        for language, counts in zip(
            settings.languages, numbers.get("altered", {}).values(), strict=False
        ):
            characters, with_bytes, changed = (counts[name] for name in _ALTERED)
            lines.append(
                f"  {language}: {characters:,} characters without a piece are spelt in bytes, in "
                f"{with_bytes:,} lines; the vocabulary normalises {changed:,} lines to other text"
            )
    return "\n".join(lines)
