"""Writes vocabulary and records of a parallel text data set.

There are four steps: copy and check the text of each split; train the vocabulary on a sample of the
training text; encode the text in parts, on all cores; combine the lengths and counts of the parts.
The results of a step, and of each part, are written completely or not at all, even if the process
is killed. They depend only on the text and the settings, not on the number of workers.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from t2t_vqem.constants import INPUTS, SPLITS, TARGETS, TRAIN, UsageError
from t2t_vqem.data import sentencepiece_model
from t2t_vqem.data.building import REPORT, check_shard, preparing, remove_unfinished
from t2t_vqem.data.filters import find_duplicates, hash_pair
from t2t_vqem.data.progress import Progress
from t2t_vqem.data.records import Schema, lengths_file
from t2t_vqem.data.text_parts import (
    ALTERED,
    DUPLICATES,
    VOCABULARY,
    Part,
    TextSettings,
    encode_part,
    read_result,
    schema,
)
from t2t_vqem.data.text_source import Corpus, PairSource
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.data.workers import run_parts
from t2t_vqem.files import write_file, write_json, writing

_HASHES = "hashes.bin"  # in the folder for temporary files: of each training pair
_MARK_LINES = 1024  # the offset of every 1024th line is stored, so that a worker finds its part
_PART_LINES = 8192  # lines in a part, more if there would be more than _MAX_PARTS parts
_MAX_PARTS = 256
_logger = logging.getLogger(__name__)


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
    vocabulary, parts = _prepare(directory, scratch, source, settings, progress)
    record_schema = schema(vocabulary.size)
    remove_unfinished(scratch)
    _encode_parts(parts, num_workers, progress)
    splits = {}
    for split in SPLITS:
        own = [part for part in parts if part.split == split]
        splits[split] = _join(directory, own, source.corpora(split), record_schema)
    report = format_report(splits, settings)
    if not splits[TRAIN]["num_examples"]:
        raise UsageError(f"no training pair is left:\n{report}")
    with open(os.path.join(directory, REPORT), "w", encoding="utf-8") as file:
        file.write(report + "\n")
    return {
        "schema": record_schema.to_json(),
        "vocabulary": {"file": VOCABULARY, "size": vocabulary.size, "sha256": vocabulary.hash},
        "splits": splits,
    }


def build_text_shard(
    directory: str,
    scratch: str,
    source: PairSource,
    settings: TextSettings,
    *,
    shard: int,
    num_shards: int,
    num_workers: int,
    progress: bool,
) -> tuple[int, int]:
    """Encodes every `num_shards`-th part, from the one with the number `shard` on.

    The first process copies the text and trains the vocabulary; the others wait for it. The other
    arguments are those of `build_text`, which combines the parts.

    Returns:
        The number of finished parts, including those of other shards, and of all parts.
    """
    with preparing(scratch):
        _, parts = _prepare(directory, scratch, source, settings, progress)
    _encode_parts(parts[shard::num_shards], num_workers, progress)
    return sum(os.path.exists(part.result) for part in parts), len(parts)


def _prepare(
    directory: str, scratch: str, source: PairSource, settings: TextSettings, progress: bool
) -> tuple[Vocabulary, list[Part]]:
    """Copies the text and makes the vocabulary, if that is not done; returns it and the parts."""
    marks = {}
    hashes = os.path.join(scratch, _HASHES) if settings.filters.duplicates else None
    for split in SPLITS:
        # Training text is temporary; the text of dev and test is kept as references for scores.
        folder = scratch if split == TRAIN else directory
        marks[split] = _copy_text(
            folder, scratch, source, split, settings.languages, progress,
            hashes=hashes if split == TRAIN else None,
        )  # fmt: skip
    if hashes:
        _write_duplicates(scratch, hashes)
    vocabulary = _make_vocabulary(directory, marks[TRAIN], settings)
    model_hash = vocabulary.hash
    parts = [_parts(directory, scratch, marks[split], settings, model_hash) for split in SPLITS]
    return vocabulary, list(itertools.chain.from_iterable(parts))


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
    *,
    hashes: str | None,
) -> _Marks:
    """Copies the text of a split to files, checks it, and records the offsets of lines.

    Writes the hashes of the pairs to the file `hashes`, if given.
    """
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
        open(hashes or os.devnull, "wb") as hash_file,
    ):
        for corpus in source.corpora(split):
            for pair in corpus.pairs():
                if num_lines % _MARK_LINES == 0:
                    offsets.append(tuple(position))
                num_lines += 1
                bar.advance(1)
                for side, file in enumerate((left, right)):
                    position[side] += file.write(pair[side] + b"\n")
                if hashes:
                    hash_file.write(hash_pair(*pair))
            ends.append(num_lines)
    if not num_lines:
        raise UsageError(f"{source.describe()}: the {split} split is empty.")
    write_json(state, [offsets, ends])
    return _Marks(split, texts, offsets, ends)


def _write_duplicates(scratch: str, hashes: str) -> None:
    """Writes which training pairs occurred before, bool [n]."""
    path = os.path.join(scratch, DUPLICATES)
    if not os.path.exists(path):
        with writing(path) as file:
            np.save(file, find_duplicates(hashes))


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
) -> list[Part]:
    """Divides a split into parts, depending only on the number of lines."""
    marks_per_part = max(_PART_LINES // _MARK_LINES, -(-len(marks.offsets) // _MAX_PARTS))
    starts = range(0, len(marks.offsets), marks_per_part)
    lines = marks_per_part * _MARK_LINES
    return [
        Part(
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


def _encode_parts(parts: list[Part], num_workers: int, progress: bool) -> None:
    total = sum(part.num_lines for part in parts)
    with Progress("encoding", total, "pairs", enabled=progress) as bar:
        run_parts(encode_part, parts, lambda part: part.num_lines, num_workers, bar)


def _join(
    directory: str, parts: list[Part], corpora: list[Corpus], record_schema: Schema
) -> dict[str, Any]:
    """Checks the shards of a split, writes its lengths, returns its entry in the manifest."""
    split, settings = parts[0].split, parts[0].settings
    results = [read_result(part) for part in parts]
    for part, result in zip(parts, results, strict=True):
        check_shard(os.path.join(directory, part.shard), len(result.lengths), record_schema)
    lengths = np.concatenate([result.lengths for result in results])
    dropped, altered, kept = (
        np.sum(column, axis=0).tolist() for column in list(zip(*results, strict=True))[1:4]
    )
    np.save(os.path.join(directory, lengths_file(split)), lengths)
    found = {}
    if settings.sentencepiece_model:
        counts = [dict(zip(ALTERED, side, strict=True)) for side in altered]
        found = {"altered": dict(zip((INPUTS, TARGETS), counts, strict=True))}
    if [corpus.weight for corpus in corpora] != [1.0]:
        sizes = np.diff([0, *parts[0].ends]).tolist()
        found["corpora"] = [
            {"name": name, "weight": weight, "num_lines": size, "num_examples": count}
            for (name, weight, _), size, count in zip(corpora, sizes, kept, strict=True)
        ]
    return {
        "shards": [part.shard for part in parts],
        "num_lines": sum(part.num_lines for part in parts),
        "num_examples": len(lengths),
        "dropped": dict(zip(settings.filters.reasons, dropped, strict=True)),
        "source_tokens": int(lengths[:, 0].sum()),
        "target_tokens": int(lengths[:, 1].sum()),
        "longest": int(lengths[:, :2].max(initial=0)),
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
            lines.append(f"  {settings.filters.describe(dropped)}")
        for language, counts in zip(
            settings.languages, numbers.get("altered", {}).values(), strict=False
        ):
            characters, with_bytes, changed = (counts[name] for name in ALTERED)
            lines.append(
                f"  {language}: {characters:,} characters without a piece are spelt in bytes, in "
                f"{with_bytes:,} lines; the vocabulary normalises {changed:,} lines to other text"
            )
    return "\n".join(lines)
