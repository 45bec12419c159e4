"""The base classes of problems: what data there is, how it is made, read and put into batches."""

from __future__ import annotations

import abc
import logging
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from t2t_vqem.constants import UsageError
from t2t_vqem.data import building
from t2t_vqem.data.batching import BatchPlan
from t2t_vqem.data.reader import MakeBatch
from t2t_vqem.data.records import RecordReader, Schema
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.data.workers import default_num_workers
from t2t_vqem.fields import Config, json_defaults, to_json
from t2t_vqem.registry import snake_case

_FORMAT = 2  # of what `generate` writes; to be raised when data of before cannot be read any more
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

    @classmethod
    def starting_config(cls, data_dir: str) -> Config | None:
        """Returns the settings that data are made with unless the user says otherwise.

        Args:
            data_dir: where `generate` is to write.

        Returns:
            None for the defaults.
        """
        del data_dir
        return None

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

    def batch_maker(self, data_dir: str, hparams: Any) -> MakeBatch:
        """Returns what makes batches for a model: `make_batch`, unless the model wants others.

        Args:
            data_dir: where `generate` wrote.
            hparams: of the model.
        """
        del data_dir, hparams
        return self.make_batch

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
            hparams: `batch_size`, `max_length`, `num_buckets` and `group_size` are used.
            seed: seed of the order.
            shuffle: False for evaluation: the order of the data, bucket by bucket.
            epochs: None never ends.
        """
        lengths = self.lengths(data_dir, split, hparams.group_size)
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
            building.compare(
                existing, self._settings(), self.dir(data_dir), self._setting_defaults()
            )
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
            defaults=self._setting_defaults(),
        )

    def _settings(self) -> dict[str, Any]:
        return {"format": _FORMAT, "problem": self.name, "config": to_json(self.config)}

    def _setting_defaults(self) -> dict[str, Any]:
        """Returns what data were made with that are older than a setting; see `compare`."""
        return {"config": json_defaults(self.Config)}

    def check_config(self, data_dir: str) -> None:
        """Checks that the data were made with the problem's settings.

        Raises:
            UsageError: with others; or they have not been made.
        """
        wanted = {"config": to_json(self.config)}
        manifest, directory = self.manifest(data_dir), self.dir(data_dir)
        building.compare(manifest, wanted, directory, self._setting_defaults())

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

    def model_arguments(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Returns what a model's constructor needs to know of the data, by name."""
        del vocabulary
        return {}

    def report(self, data_dir: str) -> str:
        """Returns what `generate` did, in words."""
        splits = self.manifest(data_dir)["splits"]
        return "\n".join(f"{name}: {s['num_examples']:,} examples" for name, s in splits.items())

    def lengths(self, data_dir: str, split: str, group_size: int = 1) -> np.ndarray | None:
        """Returns the positions of each example, int32 [n, sides]; None if all are alike.

        Args:
            data_dir: where `generate` wrote.
            split: train, dev or test.
            group_size: tokens of the groups that a model has targets laid out in; 1 for none.
        """
        del data_dir, split, group_size
        return None
