"""The base classes of problems: what data there is, how it is made, read and put into batches."""

from __future__ import annotations

import abc
import dataclasses
import logging
import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from t2t_vqem.constants import EOS_ID, INPUTS, PAD_ID, TARGETS, TRAIN, UsageError
from t2t_vqem.data import building, text_building
from t2t_vqem.data.batching import BatchPlan
from t2t_vqem.data.records import RecordReader, Schema
from t2t_vqem.data.text_source import PairSource, read_lines
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.data.workers import default_num_workers
from t2t_vqem.fields import Config, option, to_json
from t2t_vqem.registry import snake_case

_FORMAT = 1  # of what `generate` writes; to be raised when data of before cannot be read any more
_logger = logging.getLogger(__name__)


class Problem(abc.ABC):
    """Data with the splits train, dev and test, and how it becomes batches.

    A problem says where its data comes from (`source`), how it is written (`build`) and what a
    batch holds (`make_batch`). Registered under its class's name in snake_case unless it says
    otherwise.

    Attributes:
        name: the name it is registered under, also of its folder.
        Config: type of `config`.
        config: settings; frozen.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Config]] = Config

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = snake_case(cls.__name__)

    def __init__(self, config: Config | None = None):
        """Makes the problem with these settings; None for the defaults."""
        self.config = self.Config() if config is None else config

    @abc.abstractmethod
    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> Any:
        """Returns where the data comes from: an object with `describe()` and `fingerprint()`.

        Args:
            source_dir: folder with the user's files, None if not given.
            tfds_dir: folder with prepared TFDS data sets, None if not given.

        Raises:
            UsageError: there is nothing there, with what was looked for.
        """

    def source_given(self, *, source_dir: str | None, tfds_dir: str | None) -> bool:
        """Returns whether `source` needs neither more directories nor a download.

        Data that is there already is compared with its sources only then.
        """
        del source_dir, tfds_dir
        return True

    @abc.abstractmethod
    def build(
        self, directory: str, scratch: str, source: Any, *, num_workers: int, progress: bool
    ) -> dict[str, Any]:
        """Writes the data and returns what the manifest says about it.

        The manifest needs "schema" (see `records.Schema`) and "splits": for each split its "shards"
        and "num_examples". What an earlier, killed call left in the folders is to be reused.

        Args:
            directory: folder for the data.
            scratch: folder for what is needed on the way.
            source: what `source` returned.
            num_workers: processes to use.
            progress: whether to show progress.
        """

    @abc.abstractmethod
    def make_batch(
        self, records: Sequence[dict[str, np.ndarray] | None], length: int
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of a batch.

        Args:
            records: one for each row, None for an empty row.
            length: positions to pad to, where rows have positions.
        """

    def plan(
        self,
        data_dir: str,
        split: str,
        hparams: Any,
        *,
        seed: int,
        shuffle: bool = True,
        epochs: int | None = None,
    ) -> BatchPlan:
        """Returns which examples make up which step.

        Args:
            data_dir: where `generate` wrote.
            split: train, dev or test.
            hparams: `batch_size`, `max_length` and `num_buckets` are used.
            seed: seed of the order.
            shuffle: False for evaluation: the order of the data, bucket by bucket.
            epochs: None never ends.
        """
        lengths = self.lengths(data_dir, split)
        if lengths is None:  # all examples are alike: batch_size counts them
            count = self.manifest(data_dir)["splits"][split]["num_examples"]
            lengths, max_length = np.ones(count, np.int32), 1
        else:
            lengths, max_length = lengths.max(axis=1), hparams.max_length
            cut = int((lengths > max_length).sum())
            if cut:
                _logger.warning(
                    "%s, %s: %d of %d examples are longer than max_length=%d and are cut",
                    self.name, split, cut, len(lengths), max_length,
                )  # fmt: skip
        return BatchPlan(
            lengths,
            batch_size=hparams.batch_size,
            max_length=max_length,
            num_buckets=hparams.num_buckets,
            seed=seed,
            shuffle=shuffle,
            epochs=epochs,
        )

    def generate(
        self,
        data_dir: str,
        *,
        source_dir: str | None = None,
        tfds_dir: str | None = None,
        num_workers: int | None = None,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Makes the data in `data_dir`, unless it is there already, and returns the manifest.

        A killed call leaves nothing that looks finished; the next one goes on from there, to the
        same files.

        Args:
            data_dir: folder for the data of all problems.
            source_dir: folder with the user's files.
            tfds_dir: folder with prepared TFDS data sets; with it the network is never used.
            num_workers: processes; None for one on each core. The result is the same.
            progress: whether to show progress.

        Raises:
            UsageError: sources that cannot be used, data made from others in the way, a full disk.
        """
        existing = building.read_manifest(self.dir(data_dir))
        given = self.source_given(source_dir=source_dir, tfds_dir=tfds_dir)
        if existing is not None and not given:
            building.compare(existing, self._settings(), self.dir(data_dir))
            _logger.info("%s is already generated: done.", self.dir(data_dir))
            return existing
        source = self.source(source_dir=source_dir, tfds_dir=tfds_dir)
        _logger.info("%s: from %s", self.name, source.describe())
        return building.build(
            self.dir(data_dir),
            {**self._settings(), "source": source.fingerprint()},
            lambda directory, scratch: self.build(
                directory,
                scratch,
                source,
                num_workers=num_workers or default_num_workers(),
                progress=progress,
            ),
        )

    def _settings(self) -> dict[str, Any]:
        return {"format": _FORMAT, "problem": self.name, "config": to_json(self.config)}

    def _command(self, data_dir: str) -> str:
        return f"t2t-datagen --problem={self.name} --data_dir={data_dir}"

    def dir(self, data_dir: str) -> str:
        """Returns the folder of this problem's data."""
        return os.path.join(data_dir, self.name)

    def manifest(self, data_dir: str) -> dict[str, Any]:
        """Returns what `generate` wrote down about the data.

        Raises:
            UsageError: the data has not been made.
        """
        manifest = building.read_manifest(self.dir(data_dir))
        if manifest is None:
            raise UsageError(
                f"no data of {self.name} in {data_dir}. Make it with: {self._command(data_dir)}"
            )
        if manifest.get("format") != _FORMAT:
            raise UsageError(
                f"{self.dir(data_dir)} has format {manifest.get('format')}, expected {_FORMAT}. "
                f"Delete it and run {self._command(data_dir)}"
            )
        return manifest

    def _split(self, data_dir: str, split: str) -> dict[str, Any]:
        splits = self.manifest(data_dir)["splits"]
        if split not in splits:
            raise UsageError(f"unknown split {split!r}, expected one of {', '.join(splits)}.")
        return splits[split]

    def records(self, data_dir: str, split: str) -> RecordReader:
        """Returns the reader of a split's examples."""
        shards = self._split(data_dir, split)["shards"]
        schema = Schema.from_json(self.manifest(data_dir)["schema"])
        return RecordReader([os.path.join(self.dir(data_dir), name) for name in shards], schema)

    def report(self, data_dir: str) -> str:
        """Returns what `generate` did, in words."""
        splits = self.manifest(data_dir)["splits"]
        return "\n".join(f"{name}: {s['num_examples']:,} examples" for name, s in splits.items())

    def lengths(self, data_dir: str, split: str) -> np.ndarray | None:
        """Returns the positions of each example, int32 [n, sides]; None if all are alike."""
        del data_dir, split
        return None


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

    def lengths(self, data_dir: str, split: str) -> np.ndarray:
        """Returns the tokens of each example with EOS, int32 [n, 2]: source and target."""
        num_examples = self._split(data_dir, split)["num_examples"]
        path = os.path.join(self.dir(data_dir), text_building.lengths_file(split))
        try:
            lengths = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(
                f"{path}: cannot be read ({error}). Delete {self.dir(data_dir)} and run "
                f"{self._command(data_dir)}"
            ) from error
        if lengths.shape != (num_examples, 2):
            raise UsageError(
                f"{path}: shape {lengths.shape}, expected {(num_examples, 2)}. Delete "
                f"{self.dir(data_dir)} and run {self._command(data_dir)}"
            )
        return lengths

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
        batch = {}
        for side in (INPUTS, TARGETS):
            ids = np.full((len(records), length), PAD_ID, np.int32)
            for row, record in zip(ids, records, strict=True):
                if record is not None:
                    kept = record[side][: length - 1]
                    row[: len(kept)] = kept
                    row[len(kept)] = EOS_ID
            batch[side] = ids
        return batch
