"""Problems and data sets: how data is generated, and how generated data is read and batched.

A `Problem` is a recipe: settings, and the source of the data. `Problem.generate` makes the data,
`Problem.open` opens it as a `Dataset`, which training and decoding use.
"""

from __future__ import annotations

import abc
import functools
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from t2t_vqem import config, registry
from t2t_vqem.capabilities import Capability
from t2t_vqem.constants import TRAIN, UsageError
from t2t_vqem.data import building, sample_building
from t2t_vqem.data.batching import BatchPlan
from t2t_vqem.data.reader import Examples, MakeBatch, Vary
from t2t_vqem.data.records import RecordReader, Schema, lengths_file
from t2t_vqem.data.sample_building import Samples
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.data.workers import default_num_workers
from t2t_vqem.fields import Config, from_json, json_defaults, to_json
from t2t_vqem.registry import snake_case

_FORMAT = 2  # of the files that `generate` writes; increment it when older data become unreadable
_logger = logging.getLogger(__name__)

_FLAGS = {  # the flags that a problem may accept, and what each one names
    "source_dir": "the folder with your files",
    "tfds_dir": "the folder with data sets that TFDS has prepared",
    "teacher_dir": "the output directory of the teacher's run",
    "checkpoint": "the teacher's weights",
}
_SOURCES = ("source_dir", "tfds_dir", "teacher_dir")  # each of them names a complete source


class SourceFlags(NamedTuple):
    """The flags of `generate` that name the source of the data; None if not given."""

    data_dir: str  # folder for the data, which also holds the data of `Problem.base`
    source_dir: str | None = None  # folder with the user's files
    tfds_dir: str | None = None  # folder with prepared TFDS data sets; no download then
    teacher_dir: str | None = None  # output directory of a trained teacher
    checkpoint: str | None = None  # the teacher's, see `OutputDir.find_checkpoint`


class Dataset:
    """The generated data of a problem: records, in the splits train, dev and test.

    Attributes:
        problem: the recipe.
        directory: the folder of the data.
        manifest: the description that was written when the data was generated.
        vocabulary: the vocabulary of text; None for other data.
    """

    vocabulary: Vocabulary | None = None

    def __init__(self, problem: Problem, directory: str, manifest: dict[str, Any]):
        """Stores its arguments; see `Problem.open`, which reads and checks the manifest."""
        self.problem = problem
        self.directory = directory
        self.manifest = manifest
        self._readers: dict[str, RecordReader] = {}

    def split(self, split: str) -> dict[str, Any]:
        """Returns the entry of a split in the manifest."""
        splits = self.manifest["splits"]
        if split not in splits:
            raise UsageError(f"unknown split {split!r}. Expected one of: {', '.join(splits)}.")
        return splits[split]

    @functools.cached_property
    def schema(self) -> Schema:
        """The arrays of each record."""
        return Schema.from_json(self.manifest["schema"])

    def records(self, split: str) -> RecordReader:
        """Returns the reader of a split's examples, which is opened at the first call."""
        if split not in self._readers:
            paths = [os.path.join(self.directory, name) for name in self.split(split)["shards"]]
            self._readers[split] = RecordReader(paths, self.schema)
        return self._readers[split]

    def lengths(self, split: str, group_size: int = 1) -> np.ndarray | None:
        """Returns the lengths of each example, int32 [n, sides]; None if all have the same size.

        Args:
            split: train, dev or test.
            group_size: number of tokens in a group, for a model with grouped targets; 1: no groups.
        """
        del group_size
        path = os.path.join(self.directory, lengths_file(split))
        return self._load_lengths(split, 1) if os.path.exists(path) else None

    def _load_lengths(self, split: str, columns: int) -> np.ndarray:
        """Returns the lengths that were written with the records, int32 [n, columns]."""
        path = os.path.join(self.directory, lengths_file(split))
        expected = self.split(split)["num_examples"], columns
        try:
            lengths = np.load(path)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"{path}: cannot be read ({error}). {self._remedy}") from error
        if lengths.shape != expected:
            raise UsageError(f"{path}: shape {lengths.shape}, expected {expected}. {self._remedy}")
        return lengths

    @property
    def _remedy(self) -> str:
        command = self.problem.command(os.path.dirname(self.directory))
        return f"Delete {self.directory} and run {command}"

    def plan(
        self,
        split: str,
        hparams: Any,
        *,
        seed: int,
        shuffle: bool = True,
        epochs: int | None = None,
    ) -> BatchPlan:
        """Returns the plan that assigns examples to the batches of steps.

        Args:
            split: train, dev or test.
            hparams: its `batch_size`, `max_length`, `num_buckets` and `group_size` are used.
            seed: seed of the order.
            shuffle: False for evaluation: keeps the order of the data within each bucket.
            epochs: number of epochs; None: no limit.
        """
        lengths = self.lengths(split, hparams.group_size)
        if lengths is None:  # all examples have the same size: batch_size counts examples
            lengths, max_length = np.ones(self.split(split)["num_examples"], np.int32), 1
        else:
            lengths, max_length = lengths.max(axis=1), hparams.max_length
            cut = int((lengths > max_length).sum())
            if cut:
                _logger.warning(
                    "%s, %s: %d of %d examples are longer than max_length=%d and are truncated",
                    self.problem.name, split, cut, len(lengths), max_length,
                )  # fmt: skip
        return BatchPlan(
            lengths,
            batch_size=hparams.batch_size,
            max_length=max_length,
            num_buckets=hparams.num_buckets,
            seed=seed,
            shuffle=shuffle,
            epochs=epochs,
            corpora=[
                (c["num_examples"], c["weight"]) for c in self.split(split).get("corpora", ())
            ],
        )

    def batch_maker(self, hparams: Any) -> MakeBatch:
        """Returns the function that makes batches for a model, by default `make_batch`."""
        del hparams
        return self.problem.make_batch

    def examples(self, split: str, hparams: Any, **order: Any) -> Examples:
        """Returns a split in batches for a model.

        Args:
            split: train, dev or test.
            hparams: as in `plan`.
            **order: seed, shuffle and epochs, as in `plan`.
        """
        plan = self.plan(split, hparams, **order)
        training = split == TRAIN and order.get("shuffle", True)
        vary = self.variation(hparams, order["seed"]) if training else None
        return Examples(self.records(split), plan, self.batch_maker(hparams), vary)

    def variation(self, hparams: Any, seed: int) -> Vary | None:
        """Returns what changes training examples at random, by default nothing."""
        del hparams, seed
        return None

    @property
    def report(self) -> str:
        """Text that says which examples were kept and dropped; also in report.txt."""
        path = os.path.join(self.directory, building.REPORT)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return file.read().rstrip("\n")
        splits = self.manifest["splits"]
        return "\n".join(f"{name}: {s['num_examples']:,} examples" for name, s in splits.items())


class Problem(abc.ABC):
    """A recipe for data with the splits train, dev and test.

    The simplest problem defines `schema` and `generate_samples`. Problems of text and of images
    derive from `TextProblem` and `ImageProblem`.

    Attributes:
        name: registered name, and name of the data's folder. By default the class's name in
            snake_case.
        Config: type of `config`.
        config: settings; frozen.
        dataset_class: the type that `open` returns.
        needs: the capability that a model must have, see `capabilities`; None if any model fits.
        accepts: flags of t2t-datagen that name the source of the data, "source_dir" for example;
            empty if the problem generates its data itself.
        base: problem from whose data, in the same data_dir, this problem's data is made; or None.
        for_own_files: registered problem of this kind that reads the user's own files.
        keep_unfinished: whether the unfinished output of a killed `generate` is too costly to
            remove. Changed settings are then an error.
        schema: arrays of each sample, if `build` is not overridden.
        samples_version: changes when the output of `generate_samples` changes; None: the output is
            hashed.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Config]] = Config
    dataset_class: ClassVar[type[Dataset]] = Dataset
    needs: ClassVar[type[Capability] | None] = None
    accepts: ClassVar[tuple[str, ...]] = ()
    base: ClassVar[type[Problem] | None] = None
    for_own_files: ClassVar[str] = ""
    keep_unfinished: ClassVar[bool] = False
    schema: ClassVar[Schema]
    samples_version: str | None = None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = snake_case(cls.__name__)

    def __init__(self, config: Config | None = None):
        """Makes the problem with the given settings; None for the defaults."""
        self.config = self.Config() if config is None else config

    @classmethod
    def starting_config(cls, data_dir: str) -> Config | None:
        """Returns the settings to start from, before those that the user gives.

        If there is a `base`, these are the settings of its data.

        Args:
            data_dir: folder in which `generate` will write.

        Returns:
            The settings, or None for the defaults.

        Raises:
            UsageError: the data of `base` does not exist.
        """
        if cls.base is None:
            return None
        manifest = building.read_manifest(os.path.join(data_dir, cls.base.name))
        if manifest is None:
            raise UsageError(
                f"no data of {cls.base.name} in {data_dir}, from which {cls.name} is made. Make it "
                f"with: t2t-datagen --problem={cls.base.name} --data_dir={data_dir}"
            )
        return from_json(cls.Config, manifest["config"])

    @classmethod
    def check_flags(cls, **flags: Any) -> None:
        """Checks that the problem accepts the given flags.

        Args:
            **flags: values by name; None for a flag that is not given.

        Raises:
            UsageError: a flag that the problem does not accept, or more than one source.
        """
        given = {name: value for name, value in flags.items() if value not in (None, "")}
        for name, value in given.items():
            if name not in cls.accepts:
                raise UsageError(f"--{name}={value}: {cls._explain_refusal(name)}")
        sources = [f"--{name}" for name in _SOURCES if name in given]
        if len(sources) > 1:
            raise UsageError(f"{' and '.join(sources)} are given, expected only one of them.")

    @classmethod
    def _explain_refusal(cls, flag: str) -> str:
        instead = ""
        if flag == "source_dir" and not cls.accepts and cls.for_own_files:
            instead = f", or use --problem={cls.for_own_files}, which reads your own files"
        elif flag not in ("source_dir", "tfds_dir"):
            instead = (
                f", or use --problem={cls.name}_distilled: only distilled problems take "
                f"{_FLAGS[flag]}"
            )
        return f"{cls.name} is {cls.data_origin()}. Omit the flag{instead}."

    @classmethod
    def data_origin(cls) -> str:
        """Returns a phrase that names the source of the data: "made from --source_dir"."""
        sources = [f"--{name}" for name in _SOURCES if name in cls.accepts]
        if "tfds_dir" in cls.accepts:
            sources.append("a download")
        return f"made from {' or '.join(sources)}" if sources else "made by the problem itself"

    def source_given(self, flags: SourceFlags) -> bool:
        """Returns whether `source` can be called without further flags or a download.

        Only then existing data is compared with its source.
        """
        return not self.accepts or any(getattr(flags, name) for name in _SOURCES)

    def _source(self, flags: SourceFlags) -> Any:
        """Returns `source`, if the flags name one or it can be downloaded."""
        if not self.source_given(flags) and "tfds_dir" not in self.accepts:
            needed = next(name for name in _SOURCES if name in self.accepts)
            made_of = ""
            if self.base is not None:
                made_of = f" is made from the data of {self.base.name} in {flags.data_dir}, and"
            raise UsageError(f"{self.name}{made_of} needs --{needed}, {_FLAGS[needed]}.")
        return self.source(flags)

    def generate_samples(self, split: str) -> Iterable[Any]:
        """Returns the samples of a split, the same ones at each call.

        A sample is a dict of the arrays in `schema`; for a `TextProblem` a pair of lines, for an
        `ImageProblem` an image.

        Args:
            split: train, dev or test.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines neither generate_samples nor source: define one of "
            "them, which gives the data."
        )

    def source(self, flags: SourceFlags) -> Any:
        """Returns the source of the data: an object with `describe()` and `fingerprint()`.

        `build` gets this object. A problem that accepts flags overrides this method.

        Args:
            flags: the given flags. A problem that accepts flags, but not tfds_dir, gets at least
                one of them.

        Raises:
            UsageError: the source does not exist; the message says what was expected.
        """
        del flags
        return Samples(self.name, self.schema, self.generate_samples, self.samples_version)

    def build(
        self, directory: str, scratch: str, source: Any, *, num_workers: int, progress: bool
    ) -> dict[str, Any]:
        """Writes the data and returns its entries in the manifest.

        The manifest needs "schema" (see `records.Schema`) and "splits": for each split its "shards"
        and "num_examples". An implementation should reuse what a killed call left in the folders.

        Args:
            directory: folder for the data.
            scratch: folder for temporary files.
            source: the object that `source` returned.
            num_workers: number of processes.
            progress: whether to show progress.
        """
        del num_workers
        return sample_building.build_samples(directory, scratch, source, progress=progress)

    def generate(
        self, data_dir: str, *, num_workers: int | None = None, progress: bool = True, **flags: Any
    ) -> Dataset:
        """Makes the data in `data_dir`, unless it exists already, and opens it.

        Unfinished data of a killed call does not look finished. The next call continues from it and
        gives the same files.

        Args:
            data_dir: folder for the data of all problems.
            num_workers: number of processes; None: one for each core. It does not change the data.
            progress: whether to show progress.
            **flags: the source of the data, see `SourceFlags`.

        Raises:
            UsageError: the source is unusable, the folder holds data from another source, or the
                disk is full.
        """
        self.check_flags(**flags)
        source_flags = SourceFlags(data_dir, **flags)
        directory = os.path.join(data_dir, self.name)
        if not self.source_given(source_flags):
            existing = building.read_manifest(directory)
            if existing is not None:
                _logger.info("%s is already generated: done.", directory)
                return self.open(data_dir, existing)
        source = self._source(source_flags)
        _logger.info("%s: from %s", self.name, source.describe())
        manifest = building.build(
            directory,
            self._identity(source),
            lambda folder, scratch: self.build(
                folder,
                scratch,
                source,
                num_workers=num_workers or default_num_workers(),
                progress=progress,
            ),
            keep=self.keep_unfinished,
            defaults=self.setting_defaults(),
        )
        return self.open(data_dir, manifest)

    def build_shard(
        self,
        directory: str,
        scratch: str,
        source: Any,
        *,
        shard: int,
        num_shards: int,
        num_workers: int,
        progress: bool,
    ) -> tuple[int, int]:
        """Does a share of the work of `build`, which then finds the finished parts.

        The arguments are those of `build` and of `generate_shard`.

        Returns:
            The number of finished parts, including those of other shards, and of all parts.
        """
        del num_workers
        return sample_building.build_sample_shard(
            directory, scratch, source, shard=shard, num_shards=num_shards, progress=progress
        )

    def generate_shard(
        self,
        data_dir: str,
        *,
        shard: int,
        num_shards: int,
        num_workers: int | None = None,
        progress: bool = True,
        **flags: Any,
    ) -> str:
        """Makes one of several shards, and returns a message that says what is left to do.

        Shards can be made at the same time, on machines that share `data_dir`. Afterwards
        `generate` combines them, and makes what is missing; the data is the same as without shards.

        Args:
            data_dir: as in `generate`.
            shard: number of the shard, from 0 to `num_shards` - 1.
            num_shards: number of shards.
            num_workers: as in `generate`.
            progress: whether to show progress.
            **flags: as in `generate`.

        Raises:
            UsageError: as in `generate`; or another process makes a shard of the same data from
                another source or with other settings.
        """
        if not 0 <= shard < num_shards:
            raise UsageError(
                f"shard {shard} of {num_shards}: expected a number from 0 to {num_shards - 1}."
            )
        self._check_build_shard()
        self.check_flags(**flags)
        source = self._source(SourceFlags(data_dir, **flags))
        directory, name = os.path.join(data_dir, self.name), f"shard-{shard}-of-{num_shards}"
        identity, defaults = self._identity(source), self.setting_defaults()
        with building.shared_work(directory, identity, name, defaults=defaults) as scratch:
            if scratch is None:
                return f"{directory} is ready: nothing to do."
            done, total = self.build_shard(
                os.path.dirname(scratch),
                scratch,
                source,
                shard=shard,
                num_shards=num_shards,
                num_workers=num_workers or default_num_workers(),
                progress=progress,
            )
        rest = "When all shards are done, run the command without --shard to combine them."
        return f"shard {shard} of {num_shards} is done. {done} of {total} parts are done. {rest}"

    def _check_build_shard(self) -> None:
        """Raises an error if a subclass has its own `build`, but no `build_shard` for it."""
        owner = next(c for c in type(self).__mro__ if {"build", "build_shard"} & vars(c).keys())
        if "build_shard" not in vars(owner):
            raise UsageError(
                f"{self.name} cannot be made in shards, because it has its own `build`. Omit "
                "--shard and --num_shards, or define `build_shard`."
            )

    def _identity(self, source: Any) -> dict[str, Any]:
        """Returns the source and the settings that identify the data, see `building.build`."""
        settings = {"format": _FORMAT, "problem": self.name, "config": to_json(self.config)}
        return {**settings, "source": source.fingerprint()}

    def setting_defaults(self) -> dict[str, Any]:
        """Returns the values for data that is older than a setting; see `building.compare`."""
        return {"config": json_defaults(self.Config)}

    def open(self, data_dir: str, manifest: dict[str, Any] | None = None) -> Dataset:
        """Opens the data that `generate` made.

        Args:
            data_dir: folder for the data of all problems.
            manifest: the manifest of the data, if it was read already.

        Raises:
            UsageError: the data does not exist, or was made with other settings.
        """
        directory = os.path.join(data_dir, self.name)
        manifest = building.read_manifest(directory) if manifest is None else manifest
        command = self.command(data_dir)
        if manifest is None:
            raise UsageError(f"no data of {self.name} in {data_dir}. Make it with: {command}")
        if manifest.get("format") != _FORMAT:
            raise UsageError(
                f"{directory} has format {manifest.get('format')}, expected {_FORMAT}. Delete it "
                f"and run {command}"
            )
        wanted = {"config": to_json(self.config)}
        building.compare(manifest, wanted, directory, self.setting_defaults())
        return self.dataset_class(self, directory, manifest)

    def command(self, folder: str) -> str:
        """Returns the command that makes the data in a folder."""
        teacher = " --teacher_dir=DIR" if "teacher_dir" in self.accepts else ""
        return f"t2t-datagen --problem={self.name} --data_dir={folder}{teacher}"

    def make_batch(
        self, records: Sequence[dict[str, np.ndarray] | None], length: int
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of a batch.

        By default these are the arrays of the records by name, axes of variable size truncated or
        zero-padded to `length`; and "mask", bool [rows], True for rows that hold a record.

        Args:
            records: one for each row, None for an empty row.
            length: size of the variable axes.
        """
        rows = len(records)
        batch = {
            field.name: np.zeros(
                [rows, *(length if n is None else n for n in field.shape)], field.dtype
            )
            for field in self.schema.fields
        }
        for row, record in enumerate(records):
            for name, array in (record or {}).items():
                kept = array[tuple(slice(size) for size in batch[name].shape[1:])]
                batch[name][(row, *(slice(size) for size in kept.shape))] = kept
        return {**batch, "mask": np.array([record is not None for record in records])}

    @classmethod
    def needs_a(cls, capability: type[Capability]) -> bool:
        """Returns whether the problem needs models with this capability."""
        return cls.needs is not None and issubclass(cls.needs, capability)

    def model_arguments(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Returns the arguments of a model's constructor that depend on the data, by name."""
        del vocabulary
        return {}


def make_problem(
    name: str,
    data_dir: str,
    *,
    gin_files: Sequence[str] = (),
    gin_params: Sequence[str] = (),
    problem_params: str = "",
) -> Problem:
    """Returns a registered problem with the user's settings, ready to `generate` in `data_dir`.

    Args:
        name: registered name.
        data_dir: folder for the data of all problems, also that of `Problem.base`.
        gin_files: files of gin bindings.
        gin_params: gin bindings.
        problem_params: name=value,name=value.

    Raises:
        UsageError: an unknown name or setting.
    """
    problem_class = registry.problems.get(name)
    start = problem_class.starting_config(data_dir)
    settings = config.resolve(
        problem=name,
        gin_files=gin_files,
        gin_params=gin_params,
        problem_params=problem_params,
        base=start and config.Resolved(start, None, ""),
    )
    return problem_class(settings.problem_config)
