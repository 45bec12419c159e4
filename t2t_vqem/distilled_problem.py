"""Problems whose training targets are translations by a teacher (Kim and Rush, 2016).

`distilled` makes one of any problem of parallel text. The teacher and TensorFlow are imported when
data are made, not before.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from t2t_vqem.constants import UsageError
from t2t_vqem.data import building, text_building
from t2t_vqem.data.text_source import hash_file
from t2t_vqem.data.workers import default_num_workers
from t2t_vqem.fields import Config, from_json, option, to_json
from t2t_vqem.text_problem import TextConfig, TextProblem

if TYPE_CHECKING:
    from t2t_vqem.inference.distillation import Distillation
    from t2t_vqem.inference.teacher import Teacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingConfig(Config):
    """How the teacher translates."""

    beam_size: int = option(4, "hypotheses of the teacher's beam search; 1 is greedy", minimum=1)
    alpha: float = option(0.6, "exponent of the beam search's length penalty", minimum=0)
    num_translations: int = option(
        1,
        "translations of a source to train on, the best of the beam: several make more of little "
        "data",
        minimum=1,
    )
    score_margin: float = option(
        0.5,
        "a further translation is left out where its log-probability over length penalty is lower "
        "by more than this",
        minimum=0,
    )
    extra_sources: str = option(
        "",
        "file of further source sentences, plain or .gz, that the teacher translates too; '' for "
        "none",
    )
    extra_length: int = option(
        50, "a translation has at most this many tokens more than its source", minimum=1
    )
    batch_size: int = option(
        4096,
        "source tokens of a batch, with padding, counted once for each hypothesis of a beam",
        minimum=1,
    )
    xla: bool = option(True, "whether to compile the teacher's search with XLA")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_translations > self.beam_size:
            raise UsageError(
                f"num_translations={self.num_translations} with beam_size={self.beam_size}: "
                "expected at most as many translations as the beam has hypotheses"
            )


class DistilledProblem(TextProblem):
    """A problem of parallel text with a teacher's translations for targets to train on.

    Sources, vocabulary, dev and test are those of the problem `base`, whose data lie in the same
    data_dir; further sources may come from a file. Its settings are those of these data, and what
    the teacher is to translate and how.
    """

    base: ClassVar[type[TextProblem]]

    @classmethod
    def starting_config(cls, data_dir: str) -> TextConfig:
        """Returns the settings of the data of `base`; see `Problem.starting_config`."""
        manifest = building.read_manifest(os.path.join(data_dir, cls.base.name))
        if manifest is None:
            raise UsageError(
                f"no data of {cls.base.name} in {data_dir}, whose training sources the teacher is "
                f"to translate. Make it with: t2t-datagen --problem={cls.base.name} "
                f"--data_dir={data_dir}"
            )
        return from_json(cls.Config, manifest["config"])

    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> NoReturn:
        """Refuses: the data come from those of `base` and from a teacher, not from files."""
        del source_dir, tfds_dir
        raise UsageError(
            f"{self.name} is made of the data of {self.base.name} in --data_dir by a teacher: "
            "expected --teacher_dir, the output directory of its run, and neither --source_dir nor "
            "--tfds_dir."
        )

    def source_given(self, *, source_dir: str | None, tfds_dir: str | None) -> bool:
        """Returns whether a directory is named, which `source` then refuses."""
        return bool(source_dir or tfds_dir)

    def generate(
        self,
        data_dir: str,
        *,
        teacher_dir: str | None = None,
        checkpoint: str | None = None,
        source_dir: str | None = None,
        tfds_dir: str | None = None,
        num_workers: int | None = None,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Makes the data in `data_dir`, unless they are there already, and returns the manifest.

        Args:
            data_dir: folder for the data of all problems; has those of `base`.
            teacher_dir: output directory of the trained teacher.
            checkpoint: which of its checkpoints, see `OutputDir.find_checkpoint`.
            source_dir: not to be given.
            tfds_dir: not to be given.
            num_workers: processes that encode; None for one on each core.
            progress: whether to show progress.

        Raises:
            UsageError: data or teacher that cannot be used, data made otherwise in the way.
        """
        if source_dir or tfds_dir or not teacher_dir:  # already there, or an error
            return super().generate(data_dir, source_dir=source_dir, tfds_dir=tfds_dir)
        teacher = self._teacher(data_dir, teacher_dir, checkpoint)
        identity = self._identity(teacher)

        def make(directory: str, scratch: str) -> dict[str, Any]:
            workers = num_workers or default_num_workers()
            source = self._distillation(teacher, scratch, identity)
            return self.build(directory, scratch, source, num_workers=workers, progress=progress)

        defaults = self._setting_defaults()
        return building.build(self.dir(data_dir), identity, make, keep=True, defaults=defaults)

    def translate_shard(
        self,
        data_dir: str,
        *,
        teacher_dir: str | None,
        checkpoint: str | None = None,
        shard: int,
        num_shards: int,
        progress: bool = True,
    ) -> str:
        """Does one of several shares of the translating, as `generate` would; says what is left.

        The shares may be done at the same time, on machines that all see `data_dir`. Afterwards
        `generate` puts them together, and does what is missing.

        Args:
            data_dir: as in `generate`.
            teacher_dir: as in `generate`.
            checkpoint: as in `generate`.
            shard: number of the share, from 0 to below `num_shards`.
            num_shards: how many there are.
            progress: whether to show progress.

        Raises:
            UsageError: as `generate`; others work with another teacher or other settings.
        """
        if not 0 <= shard < num_shards:
            raise UsageError(
                f"shard {shard} of {num_shards}: expected a number from 0 to {num_shards - 1}."
            )
        teacher = self._teacher(data_dir, teacher_dir, checkpoint)
        identity = self._identity(teacher)
        name = f"shard-{shard}-of-{num_shards}"
        directory, defaults = self.dir(data_dir), self._setting_defaults()
        with building.shared_work(directory, identity, name, defaults=defaults) as scratch:
            if scratch is None:
                return f"{directory} is ready: nothing to do."
            done, total = self._distillation(teacher, scratch, identity).translate(
                shard=shard, num_shards=num_shards, progress=progress
            )
        rest = "When all are, run the command without --shard: it puts them together."
        return f"shard {shard} of {num_shards} is done. {done} of {total} parts are there. {rest}"

    def _teacher(self, data_dir: str, teacher_dir: str | None, checkpoint: str | None) -> Teacher:
        if not teacher_dir:
            self.source(source_dir=None, tfds_dir=None)
        names = [field.name for field in dataclasses.fields(self.base.Config)]
        config = {name: value for name, value in to_json(self.config).items() if name in names}
        base = self.base(from_json(self.base.Config, config))
        base.check_config(data_dir)

        from t2t_vqem.decoding.options import DecodeOptions
        from t2t_vqem.inference.teacher import Teacher

        options = DecodeOptions(
            beam_size=self.config.beam_size,
            num_best=self.config.num_translations,
            alpha=self.config.alpha,
            extra_length=self.config.extra_length,
        )
        settings = {"batch_tokens": self.config.batch_size, "xla": self.config.xla}
        return Teacher(teacher_dir, checkpoint, base, data_dir, options, **settings)

    def _distillation(
        self, teacher: Teacher, scratch: str, identity: dict[str, Any]
    ) -> Distillation:
        from t2t_vqem.inference.distillation import Distillation

        margin = self.config.score_margin
        return Distillation(teacher, scratch, margin, identity["source"], self._extra_sources)

    def _identity(self, teacher: Teacher) -> dict[str, Any]:
        extra = self._extra_sources
        hashes = {"extra sources": hash_file(extra)} if extra else {}
        return {**self._settings(), "source": {**teacher.fingerprint(), **hashes}}

    @property
    def _extra_sources(self) -> str:
        return os.path.expanduser(self.config.extra_sources)

    def _command(self, data_dir: str) -> str:
        return f"{super()._command(data_dir)} --teacher_dir=DIR"

    def build(
        self,
        directory: str,
        scratch: str,
        source: Distillation,
        *,
        num_workers: int,
        progress: bool,
    ) -> dict[str, Any]:
        """Translates, then writes what `TextProblem.build` does with the vocabulary of `base`."""
        source.translate(progress=progress)
        about_teacher, report = source.summary(directory)
        source.copy_vocabulary(os.path.join(directory, text_building.VOCABULARY))
        made = super().build(directory, scratch, source, num_workers=num_workers, progress=progress)
        path = os.path.join(directory, text_building.REPORT)
        with open(path, encoding="utf-8") as file:
            report += f"\n{file.read()}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(report)
        return {**made, "teacher": about_teacher}


def distilled(base: type[TextProblem]) -> type[DistilledProblem]:
    """Returns the problem `NAME_distilled` to a problem NAME of parallel text; registers nothing.

    problems.register()(distilled(MyProblem))
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class DistilledConfig(base.Config, DecodingConfig):
        """Settings of the base problem's data, and how the teacher translates."""

    attributes = {
        "__doc__": f"The data of {base.name} with a teacher's translations to train on.\n\n"
        f"Needs --teacher_dir, a run of {base.name}, and the data of that problem in --data_dir.",
        "__module__": base.__module__,
        "base": base,
        "Config": DistilledConfig,
        "name": f"{base.name}_distilled",
    }
    return type(f"{base.__name__}Distilled", (DistilledProblem,), attributes)
