"""Translates the training sources of a problem, and additional sources, with its teacher.

The work is divided into parts. Each part is one window of lines that the translator sorts by
length, so its result does not depend on the other parts in the same call. Each finished part is a
file: after a killed call only one part must be repeated, and several machines can translate
different parts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from t2t_vqem.constants import DEV, INPUTS, TRAIN, UsageError
from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.progress import Progress
from t2t_vqem.data.text_source import PairSource
from t2t_vqem.files import write_file, write_json
from t2t_vqem.inference.failures import FAILURES, find_failure
from t2t_vqem.inference.teacher import Teacher
from t2t_vqem.inference.translate import WINDOW_LINES, Hypothesis, Translator
from t2t_vqem.metrics.bleu import Score, sacrebleu_score

EXTRA = "extra"  # beside the splits: the additional sources
FAILURES_FILE = "failures.jsonl"
_SHOWN_FAILURES = 2  # number of failures of each kind in the report
_logger = logging.getLogger(__name__)


class _Part(NamedTuple):
    """Examples of a split, or lines of EXTRA, that are translated together."""

    split: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


class _Made(NamedTuple):
    """The contents of a finished part, one entry for each of its sources."""

    translations: list[str]  # the best translation
    targets: list[list[str]]  # the translations to train on, the best one first
    failures: list[str | None]  # a key of FAILURES if there is no target, for the best translation


class _Failure(NamedTuple):
    """A training source that the teacher failed to translate."""

    reason: str  # a key of FAILURES
    split: str  # TRAIN or EXTRA
    number: int  # index of the example in the base data, or of the line
    source: str
    translation: str


class Distillation(PairSource):
    """The text of a problem, with a teacher's translations as training targets.

    `translate` must finish all parts before anything is read.

    Args:
        teacher: the trained run, with its data.
        scratch: folder for the translations, which also holds those of earlier calls.
        score_margin: a translation after the best one of a source is dropped if its score is lower
            than the best score by more than this.
        fingerprint: hashes of everything, except the search, that the translations depend on.
        extra: file of additional source sentences, one on each line; "" for none.

    Raises:
        UsageError: the file of additional sources is unusable; the message names the line.
    """

    def __init__(
        self,
        teacher: Teacher,
        scratch: str,
        score_margin: float,
        fingerprint: dict[str, str],
        extra: str = "",
    ):
        self._teacher = teacher
        self._score_margin = score_margin
        self._dataset = teacher.dataset
        self._vocabulary = self._dataset.vocabulary
        self._scratch = scratch
        self._fingerprint = fingerprint
        self._extra = extra
        # The dev split comes first, so that the teacher's BLEU is known before the long work.
        sizes = {split: len(self._dataset.records(split)) for split in (DEV, TRAIN)}
        if extra:
            sizes[EXTRA] = sum(1 for _ in read_lines(extra))
            if not sizes[EXTRA]:
                raise UsageError(f"{extra} is empty, expected one source sentence on each line.")
        self._parts = [
            _Part(split, start, min(start + WINDOW_LINES, size))
            for split, size in sizes.items()
            for start in range(0, size, WINDOW_LINES)
        ]
        made_by = [fingerprint, teacher.to_json()["decoding"], score_margin]
        self._made_by = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()

    def describe(self) -> str:
        also = f" and {self._extra}" if self._extra else ""
        return f"{self._dataset.directory}{also}, translated with {self._teacher.checkpoint}"

    def fingerprint(self) -> dict[str, str]:
        return self._fingerprint

    def translate(
        self, *, shard: int = 0, num_shards: int = 1, progress: bool = True
    ) -> tuple[int, int]:
        """Translates the unfinished parts of a shard.

        Args:
            shard: number of the shard: every `num_shards`-th part, starting with this one.
            num_shards: number of shards.
            progress: whether to show progress.

        Returns:
            The number of finished parts, including other shards, and the number of all parts.
        """
        parts = self._parts[shard::num_shards]
        waiting = [part for part in parts if not os.path.exists(self._path(part))]
        num_lines = sum(part.size for part in waiting)
        total = sum(part.size for part in parts)
        translator = self._teacher.translator() if waiting else None
        started = time.monotonic()
        with Progress("translating", total, "sentences", enabled=progress) as bar:
            bar.advance(total - num_lines, skipped=True)
            for part, sources in self._with_sources(waiting):
                self._translate_part(part, sources, translator, bar)
                if part.split == DEV and self._missing(DEV) == 0:
                    _logger.info("the teacher on dev: %s", self.dev_score())
        if waiting:
            seconds = time.monotonic() - started
            _logger.info(
                "translated %s sentences in %.1f s, compilation included: %.1f sentences/s",
                f"{num_lines:,}",
                seconds,
                num_lines / seconds,
            )
        missing = self._missing(DEV, TRAIN, EXTRA)
        return len(self._parts) - missing, len(self._parts)

    def _missing(self, *splits: str) -> int:
        return sum(not os.path.exists(self._path(part)) for part in self._parts_of(*splits))

    def _path(self, part: _Part) -> str:
        # The hash keeps translations by other teachers or settings apart.
        name = f"{part.split}-{part.start:09}.{self._made_by[:16]}.json"
        return os.path.join(self._scratch, name)

    def _with_sources(self, parts: Iterable[_Part]) -> Iterator[tuple[_Part, list[str]]]:
        """Yields each part with its sentences. The parts of EXTRA must be in order."""
        lines = read_lines(self._extra) if self._extra else iter(())
        position = 0
        for part in parts:
            if part.split == EXTRA:
                window = itertools.islice(lines, part.start - position, part.stop - position)
                position = part.stop
                yield part, [line.decode() for line in window]
            else:
                # Decoding the records gives the exact text, or what a user's own vocabulary
                # normalises it to.
                rows = self._dataset.records(part.split).read(range(part.start, part.stop))
                yield part, [self._vocabulary.decode(row[INPUTS].tolist()) for row in rows]

    def _translate_part(
        self, part: _Part, sources: list[str], translator: Translator, bar: Progress
    ) -> None:
        found = list(translator.translate(sources, first_index=part.start, progress=bar.advance))
        made = _Made([hypothesis.text for hypothesis in found], [], [])
        for source, best in zip(self._vocabulary.encode(sources), found, strict=True):
            least = best.score - self._score_margin
            close = [best, *(h for h in best.others if h.score >= least)]
            reasons = self._reasons(source, close)
            fit = [h.text for h, reason in zip(close, reasons, strict=True) if reason is None]
            made.targets.append(list(dict.fromkeys(fit)))
            made.failures.append(None if fit else reasons[0])
        write_json(self._path(part), made._asdict(), shared=True)

    def _reasons(self, source: list[int], found: list[Hypothesis]) -> list[str | None]:
        """Returns why each translation of a source is unfit for training, or None if it is fit."""
        ids = self._vocabulary.encode([hypothesis.text for hypothesis in found])
        return [
            find_failure(source, target, cut=h.cut, max_length=self._teacher.max_length)
            for target, h in zip(ids, found, strict=True)
        ]

    def _parts_of(self, *splits: str) -> list[_Part]:
        return [part for part in self._parts if part.split in splits]

    def _read(self, part: _Part) -> _Made:
        """Reads a finished part."""
        with open(self._path(part), encoding="utf-8") as file:
            return _Made(**json.load(file))

    def pairs(self, split: str) -> Iterator[tuple[bytes, bytes]]:
        if split == TRAIN:
            for part, sources in self._with_sources(self._parts_of(TRAIN, EXTRA)):
                for source, targets in zip(sources, self._read(part).targets, strict=True):
                    for target in targets:
                        yield source.encode(), target.encode()
        else:
            sources = self._dataset.sources(split)
            targets = self._dataset.references(split)
            for source, target in zip(sources, targets, strict=True):
                yield source.encode(), target.encode()

    def _failures(self) -> Iterator[_Failure]:
        """Yields the training sources on which the teacher failed."""
        parts = [p for p in self._parts_of(TRAIN, EXTRA) if any(self._read(p).failures)]
        for part, sources in self._with_sources(parts):
            made = self._read(part)
            found = zip(sources, made.translations, made.failures, strict=True)
            for number, (source, text, reason) in enumerate(found, start=part.start):
                if reason is not None:
                    yield _Failure(reason, part.split, number, source, text)

    def copy_vocabulary(self, path: str) -> None:
        """Writes the vocabulary of the teacher and its data to a file."""
        write_file(path, self._vocabulary.model)

    def dev_score(self) -> Score:
        """Returns the BLEU of the teacher's translations of the dev split."""
        translations = [t for part in self._parts_of(DEV) for t in self._read(part).translations]
        references = self._dataset.references(DEV)
        return sacrebleu_score(translations, references, tokenizer=self._teacher.bleu_tokenizer)

    def summary(self, directory: str) -> tuple[dict[str, Any], str]:
        """Writes the failed translations to FAILURES_FILE.

        Args:
            directory: folder for the file.

        Returns:
            The manifest's entry about the teacher, and a report of it as text.

        Raises:
            UsageError: the teacher failed on every sentence.
        """
        counts: Counter[str] = Counter()
        shown = []
        with open(os.path.join(directory, FAILURES_FILE), "w", encoding="utf-8") as file:
            for failed in self._failures():
                file.write(json.dumps(failed._asdict(), ensure_ascii=False) + "\n")
                counts[failed.reason] += 1
                if counts[failed.reason] <= _SHOWN_FAILURES:
                    shown.append(
                        f"    {failed.reason}: {failed.source!r} gave {failed.translation!r}"
                    )
        score = self.dev_score()
        total = sum(part.size for part in self._parts_of(TRAIN, EXTRA))
        about = {
            **self._teacher.to_json(),
            "dev_bleu": {"value": score.value, "signature": score.signature},
            "failed": {reason: counts[reason] for reason in FAILURES},
        }
        report = "\n".join([_format(about, score, total), *shown])
        if counts.total() == total:
            raise UsageError(f"the teacher failed on every training source:\n{report}")
        return about, report


def _format(about: dict[str, Any], score: Score, total: int) -> str:
    decoding = ", ".join(f"{name}={value}" for name, value in about["decoding"].items())
    reasons = ", ".join(f"{about['failed'][key]:,} {text}" for key, text in FAILURES.items())
    return (
        f"teacher: {about['model']} on {about['problem']}, step {about['step']}, weights "
        f"{about['weights'][:12]}; {decoding}\n"
        f"teacher on dev: {score}\n"
        f"teacher failed on {sum(about['failed'].values()):,} of {total:,} training sources, which "
        f"are dropped (see {FAILURES_FILE}): {reasons}"
    )
