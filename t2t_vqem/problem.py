"""Problems and data sets: how data is made, and how what was made is read and put into batches.

A `Problem` is a recipe: settings, and where the data comes from. `Problem.generate` follows it,
`Problem.open` opens what it has made: a `Dataset`, which is handed to whoever trains or decodes.
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
from t2t_vqem.constants import UsageError
from t2t_vqem.data import building, sample_building
from t2t_vqem.data.batching import BatchPlan
from t2t_vqem.data.reader import Examples, MakeBatch
from t2t_vqem.data.records import RecordReader, Schema, lengths_file
from t2t_vqem.data.sample_building import Samples
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.data.workers import default_num_workers
from t2t_vqem.fields import Config, from_json, json_defaults, to_json
from t2t_vqem.registry import snake_case

_FORMAT = 2  # of what `generate` writes; to be raised when data of before cannot be read any more
_logger = logging.getLogger(__name__)

_FLAGS = {  # that a problem may accept, and what each names
    "source_dir": "the folder with your files",
    "tfds_dir": "the folder with data sets that TFDS has prepared",
    "teacher_dir": "the output directory of the teacher's run",
    "checkpoint": "the teacher's weights",
    "shard": "a share of the teacher's work",
    "num_shards": "how many shares there are",
}
_SOURCES = ("source_dir", "tfds_dir", "teacher_dir")  # each of them names a source by itself


class SourceFlags(NamedTuple):
    """What `generate` is told of where data comes from; None where the user says nothing."""

    data_dir: str  # where the data goes, and where that of `Problem.base` is
    source_dir: str | None = None  # folder with the user's files
    tfds_dir: str | None = None  # folder with prepared TFDS data sets; no download then
    teacher_dir: str | None = None  # output directory of a trained teacher
    checkpoint: str | None = None  # of the teacher, see `OutputDir.find_checkpoint`


class Dataset:
    """What a problem has made: records, in the splits train, dev and test.

    Attributes:
        problem: the recipe.
        directory: the folder of the data.
        manifest: what was written down when they were made.
        vocabulary: of text; None where there is none.
    """

    vocabulary: Vocabulary | None = None

    def __init__(self, problem: Problem, directory: str, manifest: dict[str, Any]):
        """Keeps the parts; see `Problem.open`, which reads and checks the manifest."""
        self.problem = problem
        self.directory = directory
        self.manifest = manifest
        self._readers: dict[str, RecordReader] = {}

    def split(self, split: str) -> dict[str, Any]:
        """Returns what the manifest says about a split."""
        splits = self.manifest["splits"]
        if split not in splits:
            raise UsageError(f"unknown split {split!r}, expected one of {', '.join(splits)}.")
        return splits[split]

    @functools.cached_property
    def schema(self) -> Schema:
        """The arrays of each record."""
        return Schema.from_json(self.manifest["schema"])

    def records(self, split: str) -> RecordReader:
        """Returns the reader of a split's examples; it is opened once."""
        if split not in self._readers:
            paths = [os.path.join(self.directory, name) for name in self.split(split)["shards"]]
            self._readers[split] = RecordReader(paths, self.schema)
        return self._readers[split]

    def lengths(self, split: str, group_size: int = 1) -> np.ndarray | None:
        """Returns the positions of each example, int32 [n, sides]; None if all are alike.

        Args:
            split: train, dev or test.
            group_size: tokens of the groups that a model has targets laid out in; 1 for none.
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
        """Returns which examples make up which step.

        Args:
            split: train, dev or test.
            hparams: `batch_size`, `max_length`, `num_buckets` and `group_size` are used.
            seed: seed of the order.
            shuffle: False for evaluation: the order of the data, bucket by bucket.
            epochs: None never ends.
        """
        lengths = self.lengths(split, hparams.group_size)
        if lengths is None:  # all examples are alike: batch_size counts them
            lengths, max_length = np.ones(self.split(split)["num_examples"], np.int32), 1
        else:
            lengths, max_length = lengths.max(axis=1), hparams.max_length
            cut = int((lengths > max_length).sum())
            if cut:
                _logger.warning(
                    "%s, %s: %d of %d examples are longer than max_length=%d and are cut",
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
        )

    def batch_maker(self, hparams: Any) -> MakeBatch:
        """Returns what makes batches for a model: `make_batch`, unless the model wants others."""
        del hparams
        return self.problem.make_batch

    def examples(self, split: str, hparams: Any, **order: Any) -> Examples:
        """Returns a split as batches for a model, to be read.

        Args:
            split: train, dev or test.
            hparams: as in `plan`.
            **order: seed, shuffle and epochs, as in `plan`.
        """
        plan = self.plan(split, hparams, **order)
        return Examples(self.records(split), plan, self.batch_maker(hparams))

    @property
    def report(self) -> str:
        """What was kept and what was dropped, in words; also in report.txt."""
        path = os.path.join(self.directory, building.REPORT)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return file.read().rstrip("\n")
        splits = self.manifest["splits"]
        return "\n".join(f"{name}: {s['num_examples']:,} examples" for name, s in splits.items())


class Problem(abc.ABC):
    """A recipe for data with the splits train, dev and test.

    The shortest recipe has a `schema` and `generate_samples`; problems of text and of images derive
    from `TextProblem` and `ImageProblem`. Registered under its class's name in snake_case unless it
    says otherwise.

    Attributes:
        name: the name it is registered under, also of its folder.
        Config: type of `config`.
        config: settings; frozen.
        dataset_class: what `open` returns.
        needs: what a model has to offer, see `capabilities`; None where any model will do.
        accepts: flags of t2t-datagen that the data can come from, "source_dir" for example; none
            for a problem that makes its data itself.
        base: problem whose data, in the same data_dir, this one's are made of; None for none.
        for_own_files: registered problem of this kind that takes the user's own files.
        keep_unfinished: whether what a killed `generate` has left is too costly to be removed when
            the settings change, and an error instead.
        schema: arrays of each sample, where `build` is not redefined.
        samples_version: changes when `generate_samples` changes what it makes; None to hash that.
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
        """Makes the problem with these settings; None for the defaults."""
        self.config = self.Config() if config is None else config

    @classmethod
    def starting_config(cls, data_dir: str) -> Config | None:
        """Returns the settings that data are made with unless the user says otherwise.

        Those of the data of `base`, where there is one.

        Args:
            data_dir: where `generate` is to write.

        Returns:
            None for the defaults.

        Raises:
            UsageError: there are no data of `base`.
        """
        if cls.base is None:
            return None
        manifest = building.read_manifest(os.path.join(data_dir, cls.base.name))
        if manifest is None:
            raise UsageError(
                f"no data of {cls.base.name} in {data_dir}, which {cls.name} is made of. Make it "
                f"with: t2t-datagen --problem={cls.base.name} --data_dir={data_dir}"
            )
        return from_json(cls.Config, manifest["config"])

    @classmethod
    def check_flags(cls, **flags: Any) -> None:
        """Checks that the flags that are given are among those that the problem accepts.

        Args:
            **flags: values by name; None where one is not given.

        Raises:
            UsageError: another flag, or two sources.
        """
        given = {name: value for name, value in flags.items() if value not in (None, "")}
        for name, value in given.items():
            if name not in cls.accepts:
                raise UsageError(f"--{name}={value}: {cls._explain_refusal(name)}")
        sources = [f"--{name}" for name in _SOURCES if name in given]
        if len(sources) > 1:
            raise UsageError(f"{' and '.join(sources)} are both given, expected one of them.")

    @classmethod
    def _explain_refusal(cls, flag: str) -> str:
        instead = ""
        if flag == "source_dir" and not cls.accepts and cls.for_own_files:
            instead = f", or take --problem={cls.for_own_files}, which reads your own files"
        elif flag not in ("source_dir", "tfds_dir"):
            instead = (
                f", or take --problem={cls.name}_distilled: {_FLAGS[flag]} is of distilled problems"
            )
        return f"{cls.name} is {cls.data_origin()}. Leave the flag out{instead}."

    @classmethod
    def data_origin(cls) -> str:
        """Returns where the data comes from, in words: "made from --source_dir"."""
        sources = [f"--{name}" for name in _SOURCES if name in cls.accepts]
        if "tfds_dir" in cls.accepts:
            sources.append("a download")
        return f"made from {' or '.join(sources)}" if sources else "made by the problem itself"

    def source_given(self, flags: SourceFlags) -> bool:
        """Returns whether `source` needs neither more flags nor a download.

        Data that is there already is compared with its sources only then.
        """
        return not self.accepts or any(getattr(flags, name) for name in _SOURCES)

    def _source(self, flags: SourceFlags) -> Any:
        """Returns `source`, after a check that the flags name one or that it is downloaded."""
        if not self.source_given(flags) and "tfds_dir" not in self.accepts:
            needed = next(name for name in _SOURCES if name in self.accepts)
            made_of = ""
            if self.base is not None:
                made_of = f" is made of the data of {self.base.name} in {flags.data_dir}, and it"
            raise UsageError(f"{self.name}{made_of} needs --{needed}, {_FLAGS[needed]}.")
        return self.source(flags)

    def generate_samples(self, split: str) -> Iterable[Any]:
        """Returns the samples of a split; called again, the same ones.

        A sample is a dict of arrays as `schema` says; of a problem of text a pair of lines, of
        images one image.

        Args:
            split: train, dev or test.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines neither generate_samples nor source: one of them says "
            "where its data comes from."
        )

    def source(self, flags: SourceFlags) -> Any:
        """Returns where the data comes from: an object with `describe()` and `fingerprint()`.

        What it returns is what `build` takes. A problem that accepts flags redefines this.

        Args:
            flags: those that the problem accepts; one of them is given, unless it accepts none or
                a download.

        Raises:
            UsageError: there is nothing there, with what was looked for.
        """
        del flags
        return Samples(self.name, self.schema, self.generate_samples, self.samples_version)

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
        del num_workers
        return sample_building.build_samples(directory, scratch, source, progress=progress)

    def generate(
        self, data_dir: str, *, num_workers: int | None = None, progress: bool = True, **flags: Any
    ) -> Dataset:
        """Makes the data in `data_dir`, unless it is there already, and opens it.

        A killed call leaves nothing that looks finished; the next one goes on from there, to the
        same files.

        Args:
            data_dir: folder for the data of all problems.
            num_workers: processes; None for one on each core. The result is the same.
            progress: whether to show progress.
            **flags: where the data comes from, see `SourceFlags`.

        Raises:
            UsageError: sources that cannot be used, data made from others in the way, a full disk.
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

    def _identity(self, source: Any) -> dict[str, Any]:
        """Returns what data are made from and how, see `building.build`."""
        settings = {"format": _FORMAT, "problem": self.name, "config": to_json(self.config)}
        return {**settings, "source": source.fingerprint()}

    def setting_defaults(self) -> dict[str, Any]:
        """Returns what data were made with that are older than a setting; see `compare`."""
        return {"config": json_defaults(self.Config)}

    def open(self, data_dir: str, manifest: dict[str, Any] | None = None) -> Dataset:
        """Opens the data that `generate` has made.

        Args:
            data_dir: folder for the data of all problems.
            manifest: that of the data, where it was read already.

        Raises:
            UsageError: the data has not been made, or with other settings.
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

        Here those of the records by their names, cut or filled up with zeros to `length` where
        their size varies; and "mask", bool [rows], which rows hold a record.

        Args:
            records: one for each row, None for an empty row.
            length: positions to pad to, where rows have positions.
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
        """Returns whether each model of the problem offers something."""
        return cls.needs is not None and issubclass(cls.needs, capability)

    def model_arguments(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Returns what a model's constructor needs to know of the data, by name."""
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
        data_dir: folder for the data of all problems; has those of `Problem.base`.
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
