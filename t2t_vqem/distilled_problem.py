"""Problems whose training targets are translations by a teacher (Kim and Rush, 2016).

`distilled` makes one from any problem of parallel text. The teacher and TensorFlow are imported
only when data is generated.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from t2t_vqem.constants import UsageError
from t2t_vqem.data import building, text_building
from t2t_vqem.data.text_source import hash_file
from t2t_vqem.fields import Config, from_json, option, to_json
from t2t_vqem.problem import SourceFlags
from t2t_vqem.text_problem import TextProblem

if TYPE_CHECKING:
    from t2t_vqem.inference.distillation import Distillation
    from t2t_vqem.inference.teacher import Teacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingConfig(Config):
    """How the teacher translates."""

    beam_size: int = option(
        4, "number of hypotheses in the teacher's beam search; 1: greedy search", minimum=1
    )
    alpha: float = option(0.6, "exponent of the length penalty in beam search", minimum=0)
    num_translations: int = option(
        1,
        "number of translations of each source to train on, the best of the beam; several help if "
        "there is little data",
        minimum=1,
    )
    score_margin: float = option(
        0.5,
        "a translation after the best one is dropped if its log-probability divided by the length "
        "penalty is lower than the best one's by more than this",
        minimum=0,
    )
    extra_sources: str = option(
        "",
        "file of additional source sentences, plain or .gz, for the teacher to translate; '': none",
    )
    extra_length: int = option(
        50, "a translation has at most this many tokens more than its source", minimum=1
    )
    batch_size: int = option(
        4096,
        "number of source tokens in a batch, including padding, counted once for each hypothesis "
        "of the beam",
        minimum=1,
    )
    engine: str = option(
        "auto",
        "what computes: litert, an export of the teacher; tensorflow; auto: litert if there is no "
        "GPU or TPU, and xla is set",
        choices=("auto", "litert", "tensorflow"),
    )
    int8: bool = option(False, "with litert: 8-bit weights, faster, nearly the same translations")
    xla: bool = option(True, "with tensorflow: whether to compile the teacher's search with XLA")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_translations > self.beam_size:
            raise UsageError(
                f"num_translations={self.num_translations} with beam_size={self.beam_size}: "
                "expected at most as many translations as hypotheses in the beam"
            )


class TeacherSource(NamedTuple):
    """A teacher, and the file of additional sources for it to translate; "" for none."""

    teacher: Teacher
    extra: str

    def describe(self) -> str:
        """Describes the text and the teacher's checkpoint, for messages."""
        also = f" and {self.extra}" if self.extra else ""
        return f"{self.teacher.dataset.directory}{also}, translated by {self.teacher.checkpoint}"

    def fingerprint(self) -> dict[str, str]:
        """Returns hashes that change with the weights, the data and the additional sources."""
        hashes = {"extra sources": hash_file(self.extra)} if self.extra else {}
        return {**self.teacher.fingerprint(), **hashes}


class DistilledProblem(TextProblem):
    """A problem of parallel text whose training targets are a teacher's translations.

    Sources, vocabulary, dev and test are those of the problem `base`, whose data is in the same
    data_dir. Additional sources can come from a file. The settings are those of the base data, and
    those of the teacher's decoding.
    """

    accepts = ("teacher_dir", "checkpoint")
    base: ClassVar[type[TextProblem]]
    keep_unfinished = True

    def source(self, flags: SourceFlags) -> TeacherSource:
        """Returns the teacher; see `Problem.source`."""
        names = [field.name for field in dataclasses.fields(self.base.Config)]
        config = {name: value for name, value in to_json(self.config).items() if name in names}
        base = self.base(from_json(self.base.Config, config)).open(flags.data_dir)

        from t2t_vqem.decoding.options import DecodeOptions
        from t2t_vqem.export.engines import translator_of
        from t2t_vqem.inference.teacher import Teacher

        options = DecodeOptions(
            beam_size=self.config.beam_size,
            num_best=self.config.num_translations,
            alpha=self.config.alpha,
            extra_length=self.config.extra_length,
        )
        engine = functools.partial(
            translator_of,
            engine=self.config.engine,
            int8=self.config.int8,
            batch_tokens=self.config.batch_size,
            xla=self.config.xla,
        )
        teacher = Teacher(flags.teacher_dir, flags.checkpoint, base, options, engine)
        return TeacherSource(teacher, os.path.expanduser(self.config.extra_sources))

    def build_shard(
        self, directory: str, scratch: str, source: TeacherSource, **shard: Any
    ) -> tuple[int, int]:
        """Translates a share of the sources; see `Problem.build_shard`."""
        del directory
        return self._distillation(source, scratch).translate(
            shard=shard["shard"], num_shards=shard["num_shards"], progress=shard["progress"]
        )

    def _distillation(self, source: TeacherSource, scratch: str) -> Distillation:
        from t2t_vqem.inference.distillation import Distillation

        margin, fingerprint = self.config.score_margin, source.fingerprint()
        return Distillation(source.teacher, scratch, margin, fingerprint, source.extra)

    def build(
        self,
        directory: str,
        scratch: str,
        source: TeacherSource,
        *,
        num_workers: int,
        progress: bool,
    ) -> dict[str, Any]:
        """Translates, then writes the data like `TextProblem.build`, with the base's vocabulary."""
        made = self._distillation(source, scratch)
        made.translate(progress=progress)
        about_teacher, report = made.summary(directory)
        made.copy_vocabulary(os.path.join(directory, text_building.VOCABULARY))
        manifest = super().build(
            directory, scratch, made, num_workers=num_workers, progress=progress
        )
        path = os.path.join(directory, building.REPORT)
        with open(path, encoding="utf-8") as file:
            report += f"\n{file.read()}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(report)
        return {**manifest, "teacher": about_teacher}


def distilled(base: type[TextProblem]) -> type[DistilledProblem]:
    """Returns the problem `NAME_distilled` for a problem NAME of parallel text, unregistered.

    problems.register()(distilled(MyProblem))
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class DistilledConfig(base.Config, DecodingConfig):
        """Settings of the base problem's data and of the teacher's decoding."""

    attributes = {
        "__doc__": f"The data of {base.name} with a teacher's translations to train on.\n\n"
        f"Needs --teacher_dir, a run of {base.name}, and the data of that problem in --data_dir.",
        "__module__": base.__module__,
        "base": base,
        "Config": DistilledConfig,
        "name": f"{base.name}_distilled",
    }
    return type(f"{base.__name__}Distilled", (DistilledProblem,), attributes)
