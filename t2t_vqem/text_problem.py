"""The base classes of problems and data sets of parallel text."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from t2t_vqem.capabilities import TranslationModel
from t2t_vqem.config import HParams
from t2t_vqem.constants import INPUTS, MAX_SEED, SPLITS, TARGETS, TRAIN, UsageError
from t2t_vqem.data import groups, text_building
from t2t_vqem.data.filters import SCRIPTS, Filters
from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.reader import MakeBatch, Vary
from t2t_vqem.data.subword_sampling import SubwordSampler
from t2t_vqem.data.text_source import GeneratedPairs, PairSource, hash_file
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.fields import Config, option
from t2t_vqem.problem import Dataset, Problem, SourceFlags
from t2t_vqem.registry import unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig(Config):
    """Settings of a problem of parallel text."""

    source_language: str = option("en", "code of the source language")
    target_language: str = option("de", "code of the target language")
    vocab_size: int = option(
        8000,
        "size of the vocabulary, including 3 special tokens and 256 byte tokens",
        minimum=260,
    )
    vocab_sample: int = option(
        100_000,
        "the largest number of training pairs that the vocabulary is trained on",
        minimum=1,
    )
    sentencepiece_model: str = option(
        "",
        "file of a SentencePiece model, unigram or BPE, to use as the vocabulary; vocab_size and "
        "vocab_sample then have no effect; '': train one",
    )
    max_length: int = option(
        256,
        "the largest number of tokens, including EOS; training pairs with a longer side are "
        "dropped",
        minimum=2,
    )
    max_ratio: float = option(
        4.0,
        "training pairs are dropped if one side is more than this times as long as the other, in "
        "tokens including EOS; 0: none are dropped",
        minimum=0,
    )
    drop_duplicates: bool = option(False, "drop training pairs that occurred before")
    drop_copies: bool = option(False, "drop training pairs whose target equals the source")
    drop_held_out: bool = option(
        False, "drop training pairs with a side that is also a line of dev or test"
    )
    source_script: str = option(
        "",
        "drop training pairs if most letters of the source are of other scripts than this, such as "
        "latin, cyrillic or cjk+hiragana+katakana; '': any",
    )
    target_script: str = option("", "the same for the target")
    seed: int = option(
        0,
        "seed for choosing the pairs that the vocabulary is trained on",
        minimum=0,
        maximum=MAX_SEED,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for code in (self.source_language, self.target_language):
            if not re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]{1,8})*", code):
                raise UsageError(
                    f"unknown language {code!r}: expected a code such as en, de or pt-BR"
                )
        for script in filter(None, (self.source_script, self.target_script)):
            unknown = [name for name in script.split("+") if name not in SCRIPTS]
            if unknown:
                raise UsageError(unknown_name("script", unknown[0], SCRIPTS))
        if self.source_language == self.target_language:
            raise UsageError(
                f"source_language and target_language are both {self.source_language!r}, expected "
                "two codes; for two varieties of one language use a code such as en-x-plain"
            )


class TextDataset(Dataset):
    """Pairs of lines as token ids, their vocabulary, and the text of dev and test."""

    problem: TextProblem

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that the records were written with.

        Raises:
            UsageError: it cannot be read, or is not the one of the records.
        """
        expected = self.manifest["vocabulary"]
        path = os.path.join(self.directory, expected["file"])
        vocabulary = Vocabulary(path)
        if vocabulary.hash != expected["sha256"]:
            raise UsageError(
                f"{path} is not the vocabulary that the records were written with (its hash is "
                f"{vocabulary.hash[:12]}, expected {expected['sha256'][:12]}). {self._remedy}"
            )
        return vocabulary

    def lengths(self, split: str, group_size: int = 1) -> np.ndarray:
        """Returns the lengths of source and target in tokens, including EOS, int32 [n, 2].

        Lengths of grouped targets include the tokens that fill groups; see `Dataset.lengths`.
        """
        sizes = 1, *groups.GROUP_SIZES
        lengths = self._load_lengths(split, 1 + len(sizes))
        return lengths[:, [0, 1 + sizes.index(group_size)]]

    def sources(self, split: str) -> list[str]:
        """Returns the original source lines of dev or test."""
        return self._text(split, self.problem.source_language)

    def references(self, split: str) -> list[str]:
        """Returns the original target lines of dev or test."""
        return self._text(split, self.problem.target_language)

    def _text(self, split: str, language: str) -> list[str]:
        self.split(split)
        if split == TRAIN:
            raise UsageError("the text of the train split is not kept, expected dev or test.")
        path = os.path.join(self.directory, f"{split}.{language}")
        return [line.decode() for line in read_lines(path)]

    def variation(self, hparams: HParams, seed: int) -> Vary | None:
        """Returns a sampler of segmentations if `subword_nbest` is above 1."""
        num_best = getattr(hparams, "subword_nbest", 1)
        if num_best == 1:
            return None
        return SubwordSampler(
            self.vocabulary,
            num_best=num_best,
            alpha=hparams.subword_alpha,
            seed=seed,
            group_size=hparams.group_size,
        )

    def batch_maker(self, hparams: HParams) -> MakeBatch:
        """Returns the function that makes batches, with grouped targets if the model needs them."""
        make_plain = self.problem.make_batch
        if hparams.group_size == 1:
            return make_plain
        word_starts = self.vocabulary.word_starts

        def make_batch(
            records: Sequence[dict[str, np.ndarray] | None], length: int
        ) -> dict[str, np.ndarray]:
            targets = [() if r is None else r[TARGETS] for r in records]
            targets = groups.group_words(targets, word_starts, hparams.group_size)
            return make_plain(
                [
                    r if r is None else {INPUTS: r[INPUTS], TARGETS: target[:-1]}  # without EOS
                    for r, target in zip(records, targets, strict=True)
                ],
                length,
            )

        return make_batch


class TextProblem(Problem):
    """Translation from one language into another: pairs of lines and a shared vocabulary.

    A subclass defines `generate_samples`, which yields pairs of lines, or `source`, which returns a
    `data.text_source.PairSource`.
    """

    Config = TextConfig
    config: TextConfig
    dataset_class = TextDataset
    needs = TranslationModel
    for_own_files = "translate_text"

    @property
    def source_language(self) -> str:
        """Code of the source language."""
        return self.config.source_language

    @property
    def target_language(self) -> str:
        """Code of the target language."""
        return self.config.target_language

    @property
    def languages(self) -> tuple[str, str]:
        """Codes of the source and the target language."""
        return self.source_language, self.target_language

    def generate_samples(self, split: str) -> Iterable[tuple[str, str]]:
        """Returns the pairs of lines of a split; see `Problem.generate_samples`."""
        return super().generate_samples(split)

    def source(self, flags: SourceFlags) -> PairSource:
        """Returns the source of the text; see `Problem.source`."""
        del flags
        pairs = {split: functools.partial(self.generate_samples, split) for split in SPLITS}
        return GeneratedPairs(self.samples_version, pairs)

    def _identity(self, source: Any) -> dict[str, Any]:
        identity = super()._identity(source)
        model = self.config.sentencepiece_model
        if model and self.base is None:  # otherwise the vocabulary is that of the base's data
            identity["source"]["sentencepiece_model"] = hash_file(os.path.expanduser(model))
        return identity

    def build(
        self, directory: str, scratch: str, source: PairSource, *, num_workers: int, progress: bool
    ) -> dict[str, Any]:
        """Writes records, vocabulary, lengths, and the dev and test text; see `Problem.build`."""
        return text_building.build_text(
            directory, scratch, source, self._settings, num_workers=num_workers, progress=progress
        )

    def build_shard(
        self, directory: str, scratch: str, source: PairSource, **shard: Any
    ) -> tuple[int, int]:
        """Encodes a share of the text; see `Problem.build_shard`."""
        return text_building.build_text_shard(directory, scratch, source, self._settings, **shard)

    @property
    def _settings(self) -> text_building.TextSettings:
        return text_building.TextSettings(
            languages=self.languages,
            vocab_size=self.config.vocab_size,
            vocab_sample=self.config.vocab_sample,
            filters=Filters(
                max_length=self.config.max_length,
                max_ratio=self.config.max_ratio,
                copies=self.config.drop_copies,
                duplicates=self.config.drop_duplicates,
                held_out=self.config.drop_held_out,
                scripts=(self.config.source_script, self.config.target_script),
            ),
            seed=self.config.seed,
            sentencepiece_model=os.path.expanduser(self.config.sentencepiece_model),
        )

    def model_arguments(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Returns the size of the vocabulary."""
        return {"vocab_size": vocabulary.size}

    def make_batch(
        self, records: Sequence[dict[str, np.ndarray] | None], length: int
    ) -> dict[str, np.ndarray]:
        """Returns ids with EOS, padded with PAD.

        Args:
            records: pairs without EOS; None gives a row of PAD.
            length: number of positions of a row. A longer side is truncated, with EOS at its end.

        Returns:
            "inputs" and "targets", int32 [rows, length].
        """
        return {
            side: groups.padded([r if r is None else r[side] for r in records], length)
            for side in (INPUTS, TARGETS)
        }
