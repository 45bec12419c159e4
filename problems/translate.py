"""Translation problems: WMT'14 English-German, Multi30k, and the user's own parallel text."""

from __future__ import annotations

import dataclasses
import os

from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.data.text_source import (
    CorpusFiles,
    FilePairs,
    PairSource,
    find_files,
)
from t2t_vqem.data.tfds import find_tfds
from t2t_vqem.data.tfds_pairs import TfdsPairs
from t2t_vqem.fields import option
from t2t_vqem.problem import SourceFlags
from t2t_vqem.problems.tfds import TfdsConfig
from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextConfig, TextProblem

_WMT14 = "wmt14_translate/de-en"


class FileTextProblem(TextProblem):
    """Parallel text in --source_dir: {train,dev,test}.LANGUAGE or .tsv, .jsonl, .tmx."""

    # Possible names of the files of a split, without the extension.
    stems = {TRAIN: ("train",), DEV: ("dev",), TEST: ("test",)}  # noqa: RUF012 (not changed)

    accepts = ("source_dir",)

    def source(self, flags: SourceFlags) -> PairSource:
        """Returns the files of all splits; see `Problem.source`."""
        files = {split: self.find_files(split, flags.source_dir) for split in SPLITS}
        return FilePairs(files, self.languages)

    def find_files(self, split: str, folder: str) -> tuple[str, ...]:
        """Returns the files of a split: one for each language, or one with both."""
        return find_files(folder, self.stems[split], self.languages)


@problems.register()
class TranslateEndeMulti30k(FileTextProblem):
    """Multi30k, image captions, English to German: 29,000 pairs (files in --source_dir).

    The files are {train,val,test_2016_flickr}.{en,de}, as published, or {train,dev,test}.{en,de},
    plain or .gz.
    """

    stems = {  # noqa: RUF012 (not changed)
        TRAIN: ("train",),
        DEV: ("val", "dev"),
        TEST: ("test_2016_flickr", "test"),
    }

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for Multi30k."""

        vocab_size: int = 4000


@problems.register()
class TranslateEndeWmt14(FileTextProblem):
    """WMT'14 English to German, 4.5 million pairs; the test set is newstest2014.

    From TFDS: prepared in --tfds_dir, or downloaded if neither directory is given. Or from files in
    --source_dir: {train,dev,test}.{en,de}, plain or .gz.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for WMT'14."""

        vocab_size: int = 32_768
        vocab_sample: int = 500_000

    accepts = ("source_dir", "tfds_dir")

    def source(self, flags: SourceFlags) -> PairSource:
        """Returns the files, the prepared TFDS data set, or a downloaded one."""
        if flags.source_dir:
            return super().source(flags)
        directory = find_tfds(flags.tfds_dir, _WMT14)
        return TfdsPairs(directory, self.languages)


@problems.register()
class TranslateTfds(TextProblem):
    """Any translation data set of TensorFlow Datasets by its name, with its language codes.

    Prepared in --tfds_dir, or downloaded without that flag.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig, TfdsConfig):
        """Settings for a data set of TFDS."""

    config: Config
    accepts = ("tfds_dir",)

    def source(self, flags: SourceFlags) -> PairSource:
        """Returns the prepared data set, or a downloaded one."""
        return TfdsPairs(self.config.find(flags.tfds_dir), self.languages, self.config.splits)


@problems.register()
class TranslateText(FileTextProblem):
    """Your own parallel text; --problem_params or gin set files and languages.

    The files are {train,dev,test}.LANGUAGE in --source_dir, or {train,dev,test}.tsv, .jsonl or .tmx
    with both languages, or those named in the settings; plain, or .gz, .xz, .bz2 or .zst.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for the user's own text."""

        train: tuple[str, ...] = option(
            (),
            "corpora to train on, relative to --source_dir: [a.en|a.de*2, b.tsv*0.5]; an epoch has "
            "each pair of a corpus as often as its weight says, which is 1 if not given",
        )
        dev: str = option("", "files like one corpus of train: b.en|b.de or b.tsv")
        test: str = option("", "files like one corpus of train: c.en|c.de or c.tsv")
        train_source: str = option("", "file, relative to --source_dir; '' for train.LANGUAGE")
        train_target: str = option("", "file, relative to --source_dir; '' for train.LANGUAGE")
        dev_source: str = option("", "file, relative to --source_dir; '' for dev.LANGUAGE")
        dev_target: str = option("", "file, relative to --source_dir; '' for dev.LANGUAGE")
        test_source: str = option("", "file, relative to --source_dir; '' for test.LANGUAGE")
        test_target: str = option("", "file, relative to --source_dir; '' for test.LANGUAGE")

    def source_given(self, flags: SourceFlags) -> bool:
        """Returns whether a folder or all files are given; see `Problem.source_given`."""
        return super().source_given(flags) or all(self._named(split, None) for split in SPLITS)

    def source(self, flags: SourceFlags) -> PairSource:
        """Returns the files named in the settings, and the others from --source_dir."""
        files = {split: self._named(split, flags.source_dir) for split in SPLITS}
        for split in [split for split in SPLITS if not files[split]]:
            files[split] = self.find_files(split, flags.source_dir)
        return FilePairs(files, self.languages)

    def _named(self, split: str, source_dir: str | None) -> list[CorpusFiles] | None:
        fields = (f"{split}_source", f"{split}_target")
        names = [getattr(self.config, field) for field in fields]
        given = getattr(self.config, split)
        if given and any(names):
            raise UsageError(f"got {split} and {' or '.join(fields)}: give only {split}.")
        if given:
            corpora = [CorpusFiles.parse(c) for c in ([given] if split != TRAIN else given)]
            if split != TRAIN and corpora[0].weight != 1:
                raise UsageError(f"{split}={given}: only corpora of train have weights.")
            return [_located(split, corpus, source_dir) for corpus in corpora]
        if not any(names):
            return None
        if not all(names):
            raise UsageError(
                f"got {fields[0]}={names[0]!r} and {fields[1]}={names[1]!r}: give both or neither."
            )
        paths = [
            _located(field, CorpusFiles((name,)), source_dir).paths[0]
            for field, name in zip(fields, names, strict=True)
        ]
        return [CorpusFiles(tuple(paths))]


def _located(field: str, corpus: CorpusFiles, source_dir: str | None) -> CorpusFiles:
    """Returns the corpus with its files in `source_dir`; `field` is the setting that names it."""
    paths = [os.path.join(source_dir or "", os.path.expanduser(path)) for path in corpus.paths]
    for path in paths:
        if not os.path.isfile(path):
            raise UsageError(f"missing file: {field} is {path}, which does not exist.")
    return corpus._replace(paths=tuple(paths))
