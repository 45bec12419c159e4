"""Translation of parallel text: WMT'14 English-German, Multi30k, and the user's own."""

from __future__ import annotations

import dataclasses
import os

from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.data.text_source import (
    FilePairs,
    PairSource,
    TfdsPairs,
    download_tfds,
    find_pair,
    find_tfds,
)
from t2t_vqem.fields import option
from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextConfig, TextProblem

_WMT14 = "wmt14_translate/de-en"


class FileTextProblem(TextProblem):
    """Parallel text in --source_dir: {train,dev,test}.LANGUAGE, plain or .gz."""

    # Names that the files of a split may have, before the dot.
    stems = {TRAIN: ("train",), DEV: ("dev",), TEST: ("test",)}  # noqa: RUF012 (not changed)

    def source_given(self, *, source_dir: str | None, tfds_dir: str | None) -> bool:
        """Returns whether a directory is named; see `Problem.source_given`."""
        return bool(source_dir or tfds_dir)

    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> PairSource:
        """Returns the files of all splits; see `Problem.source`."""
        return FilePairs({s: self.find_files(s, source_dir, tfds_dir) for s in SPLITS})

    def find_files(
        self, split: str, source_dir: str | None, tfds_dir: str | None
    ) -> tuple[str, str]:
        """Returns the files of a split in the source and in the target language."""
        if tfds_dir:
            raise UsageError(f"--tfds_dir={tfds_dir}: {self.name} reads files. Use --source_dir.")
        if not source_dir:
            raise UsageError(f"{self.name} needs --source_dir, the folder with its text.")
        languages = (self.source_language, self.target_language)
        return find_pair(source_dir, self.stems[split], languages)


@problems.register()
class TranslateEndeMulti30k(FileTextProblem):
    """Multi30k, captions of images, English to German: 29,000 pairs (files in --source_dir).

    Files are {train,val,test_2016_flickr}.{en,de}, as published, or {train,dev,test}.{en,de}; plain
    or .gz.
    """

    stems = {  # noqa: RUF012 (not changed)
        TRAIN: ("train",),
        DEV: ("val", "dev"),
        TEST: ("test_2016_flickr", "test"),
    }

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for Multi30k."""

        vocab_size: int = option(
            4000, "ids of the vocabulary, with 3 special ones and 256 for bytes", minimum=260
        )


@problems.register()
class TranslateEndeWmt14(FileTextProblem):
    """WMT'14 English to German, 4.5 million pairs; tested on newstest2014.

    From TFDS: prepared in --tfds_dir, or downloaded where neither directory is given. Or from files
    in --source_dir: {train,dev,test}.{en,de}, plain or .gz.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for WMT'14."""

        vocab_size: int = option(
            32768, "ids of the vocabulary, with 3 special ones and 256 for bytes", minimum=260
        )
        vocab_sample: int = option(
            500_000, "training pairs that the vocabulary is trained on, at most", minimum=1
        )

    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> PairSource:
        """Returns the files, the prepared TFDS data set, or the downloaded one."""
        if source_dir and tfds_dir:
            raise UsageError("--source_dir and --tfds_dir are both given, expected one of them.")
        if source_dir:
            return super().source(source_dir=source_dir, tfds_dir=None)
        directory = find_tfds(tfds_dir, _WMT14) if tfds_dir else download_tfds(_WMT14)
        return TfdsPairs(directory, (self.source_language, self.target_language))


@problems.register()
class TranslateText(FileTextProblem):
    """Your own parallel text: files and languages by --problem_params or gin.

    Files are {train,dev,test}.LANGUAGE in --source_dir, plain or .gz, or those that the settings
    name.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for the user's own text."""

        train_source: str = option("", "file, in --source_dir if relative; '' for train.LANGUAGE")
        train_target: str = option("", "file, in --source_dir if relative; '' for train.LANGUAGE")
        dev_source: str = option("", "file, in --source_dir if relative; '' for dev.LANGUAGE")
        dev_target: str = option("", "file, in --source_dir if relative; '' for dev.LANGUAGE")
        test_source: str = option("", "file, in --source_dir if relative; '' for test.LANGUAGE")
        test_target: str = option("", "file, in --source_dir if relative; '' for test.LANGUAGE")

    def source_given(self, *, source_dir: str | None, tfds_dir: str | None) -> bool:
        """Returns whether a directory or all files are named; see `Problem.source_given`."""
        return bool(source_dir or tfds_dir) or all(self._named(s, None) for s in SPLITS)

    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> PairSource:
        """Returns the files that the settings name, the others from --source_dir."""
        files = {s: self._named(s, source_dir) for s in SPLITS}
        for split in [s for s in SPLITS if not files[s]]:
            files[split] = self.find_files(split, source_dir, tfds_dir)
        return FilePairs(files)

    def _named(self, split: str, source_dir: str | None) -> tuple[str, str] | None:
        fields = (f"{split}_source", f"{split}_target")
        names = [getattr(self.config, field) for field in fields]
        if not any(names):
            return None
        if not all(names):
            raise UsageError(f"{fields[0]}={names[0]!r} and {fields[1]}={names[1]!r}: give both.")
        paths = [os.path.join(source_dir or "", os.path.expanduser(name)) for name in names]
        for field, path in zip(fields, paths, strict=True):
            if not os.path.isfile(path):
                raise UsageError(f"missing file: {field} is {path}, and there is no such file.")
        return paths[0], paths[1]
