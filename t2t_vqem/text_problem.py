"""The base class of problems of parallel text."""

from __future__ import annotations

import abc
import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from t2t_vqem.config import HParams
from t2t_vqem.constants import INPUTS, TARGETS, TRAIN, UsageError
from t2t_vqem.data import groups, text_building
from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.reader import MakeBatch
from t2t_vqem.data.text_source import PairSource
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.fields import Config, option
from t2t_vqem.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig(Config):
    """Settings of a problem of parallel text."""

    source_language: str = option("en", "code of the language translated from")
    target_language: str = option("de", "code of the language translated into")
    vocab_size: int = option(
        8000, "ids of the vocabulary, with 3 special ones and 256 for bytes", minimum=260
    )
    vocab_sample: int = option(
        100_000, "training pairs that the vocabulary is trained on, at most", minimum=1
    )
    max_length: int = option(
        256, "tokens with EOS; training pairs with a longer side are dropped", minimum=2
    )
    max_ratio: float = option(
        4.0,
        "training pairs with one side more than this times as long as the other, in tokens with "
        "EOS, are dropped; 0 for none",
        minimum=0,
    )
    seed: int = option(0, "seed of the vocabulary's sample", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for code in (self.source_language, self.target_language):
            if not re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]{1,8})*", code):
                raise UsageError(
                    f"unknown language {code!r}, expected a code such as en, de or pt-BR"
                )
        if self.source_language == self.target_language:
            raise UsageError(
                f"source_language and target_language are both {self.source_language!r}, expected "
                "two; for two kinds of one language write en-x-plain, say"
            )


class TextProblem(Problem):
    """Translation from one language into another: pairs of lines and a shared vocabulary.

    A subclass says where the text comes from, in `source`, which returns a
    `data.text_source.PairSource`.
    """

    Config = TextConfig
    config: TextConfig

    @property
    def source_language(self) -> str:
        """Code of the language translated from."""
        return self.config.source_language

    @property
    def target_language(self) -> str:
        """Code of the language translated into."""
        return self.config.target_language

    @abc.abstractmethod
    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> PairSource:
        """Returns where the text comes from; see `Problem.source`."""

    def build(
        self, directory: str, scratch: str, source: PairSource, *, num_workers: int, progress: bool
    ) -> dict[str, Any]:
        """Writes records, vocabulary, lengths, dev and test text; see `Problem.build`."""
        settings = text_building.TextSettings(
            languages=(self.source_language, self.target_language),
            vocab_size=self.config.vocab_size,
            vocab_sample=self.config.vocab_sample,
            max_length=self.config.max_length,
            max_ratio=self.config.max_ratio,
            seed=self.config.seed,
        )
        return text_building.build_text(
            directory, scratch, source, settings, num_workers=num_workers, progress=progress
        )

    def report(self, data_dir: str) -> str:
        """Returns what was kept and what was dropped, in words; also in report.txt."""
        path = os.path.join(self.dir(data_dir), text_building.REPORT)
        self.manifest(data_dir)  # raises where there is no data
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n")

    def vocabulary(self, data_dir: str) -> Vocabulary:
        """Returns the vocabulary that the records were written with.

        Raises:
            UsageError: the data is not there, or the vocabulary is another one.
        """
        expected = self.manifest(data_dir)["vocabulary"]
        path = os.path.join(self.dir(data_dir), expected["file"])
        vocabulary = Vocabulary(path)
        if vocabulary.hash != expected["sha256"]:
            raise UsageError(
                f"{path} is not the vocabulary that the records were written with (its hash is "
                f"{vocabulary.hash[:12]}, expected {expected['sha256'][:12]}). Delete "
                f"{self.dir(data_dir)} and run {self._command(data_dir)}"
            )
        return vocabulary

    def lengths(self, data_dir: str, split: str, group_size: int = 1) -> np.ndarray:
        """Returns the tokens of each example with EOS, int32 [n, 2]: source and target.

        In groups, the target's are with what fills them up; see `Problem.lengths`.
        """
        num_examples = self._split(data_dir, split)["num_examples"]
        path = os.path.join(self.dir(data_dir), text_building.lengths_file(split))
        try:
            lengths = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(
                f"{path}: cannot be read ({error}). Delete {self.dir(data_dir)} and run "
                f"{self._command(data_dir)}"
            ) from error
        expected = num_examples, 2 + len(groups.GROUP_SIZES)
        if lengths.shape != expected:
            raise UsageError(
                f"{path}: shape {lengths.shape}, expected {expected}. Delete "
                f"{self.dir(data_dir)} and run {self._command(data_dir)}"
            )
        sizes = 1, *groups.GROUP_SIZES
        return lengths[:, [0, 1 + sizes.index(group_size)]]

    def sources(self, data_dir: str, split: str) -> list[str]:
        """Returns the source lines of dev or test, as they were given."""
        return self._text(data_dir, split, self.source_language)

    def references(self, data_dir: str, split: str) -> list[str]:
        """Returns the target lines of dev or test, as they were given."""
        return self._text(data_dir, split, self.target_language)

    def _text(self, data_dir: str, split: str, language: str) -> list[str]:
        self._split(data_dir, split)
        if split == TRAIN:
            raise UsageError("the text of the train split is not kept, expected dev or test.")
        path = os.path.join(self.dir(data_dir), f"{split}.{language}")
        return [line.decode() for line in read_lines(path)]

    def model_arguments(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Returns the size of the vocabulary."""
        return {"vocab_size": vocabulary.size}

    def make_batch(
        self, records: Sequence[dict[str, np.ndarray] | None], length: int
    ) -> dict[str, np.ndarray]:
        """Returns ids with EOS, padded with PAD.

        Args:
            records: pairs without EOS; None gives a row of PAD.
            length: positions of a row; a longer side is cut and still ends in EOS.

        Returns:
            "inputs" and "targets", int32 [rows, length].
        """
        return {
            side: groups.padded([r if r is None else r[side] for r in records], length)
            for side in (INPUTS, TARGETS)
        }

    def batch_maker(self, data_dir: str, hparams: HParams) -> MakeBatch:
        """Returns what makes batches; targets laid out in groups if the model wants them so."""
        if hparams.group_size == 1:
            return self.make_batch
        word_starts = self.vocabulary(data_dir).word_starts

        def make_batch(
            records: Sequence[dict[str, np.ndarray] | None], length: int
        ) -> dict[str, np.ndarray]:
            targets = [() if r is None else r[TARGETS] for r in records]
            targets = groups.group_words(targets, word_starts, hparams.group_size)
            return self.make_batch(
                [
                    r if r is None else {INPUTS: r[INPUTS], TARGETS: target[:-1]}  # without EOS
                    for r, target in zip(records, targets, strict=True)
                ],
                length,
            )

        return make_batch
