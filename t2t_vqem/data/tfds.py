"""Data sets of TensorFlow Datasets (TFDS), prepared in a folder or downloaded.

Only `find_tfds` uses the network, and only if no folder is given.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from t2t_vqem.constants import UsageError
from t2t_vqem.data.text_source import hash_file
from t2t_vqem.extras import import_extra

_logger = logging.getLogger(__name__)


def import_tfds() -> ModuleType:
    """Returns the module tensorflow_datasets.

    Raises:
        MissingExtraError: it is not installed.
    """
    return import_extra("tensorflow_datasets", "tfds")


def find_tfds(tfds_dir: str | None, name: str) -> str:
    """Returns the folder of a prepared TFDS data set, of the newest version if none is named.

    Args:
        tfds_dir: TFDS's data_dir, or the folder of a version; None to download the data set and
            prepare it in TFDS's default folder.
        name: data set and configuration, such as "wmt14_translate/de-en", also with ":VERSION".

    Raises:
        UsageError: there is no such prepared data set, or it cannot be downloaded.
    """
    if not tfds_dir:
        return _download(name)
    if os.path.isfile(os.path.join(tfds_dir, "dataset_info.json")):
        return tfds_dir
    name, _, wanted = name.partition(":")
    parent = os.path.join(tfds_dir, name)
    versions = [
        version
        for version in (os.listdir(parent) if os.path.isdir(parent) else [])
        if os.path.isfile(os.path.join(parent, version, "dataset_info.json"))
        and wanted in ("", version)
    ]
    if not versions:
        raise UsageError(
            f"--tfds_dir={tfds_dir}: no prepared data set there, looked for "
            f"{parent}/{wanted or 'VERSION'}/dataset_info.json. Prepare {name} with TFDS, or leave "
            "--tfds_dir out to download it."
        )
    newest = max(versions, key=lambda v: [int(n) for n in re.findall(r"\d+", v)])
    return os.path.join(parent, newest)


def _download(name: str) -> str:
    tfds = import_tfds()
    try:
        builder = tfds.builder(name)
        _logger.info("downloading %s to %s", name, builder.data_dir)
        builder.download_and_prepare()
    except Exception as error:  # any type: of its registry, its downloads and its parsers
        raise UsageError(
            f"TFDS cannot prepare {name!r} ({type(error).__name__}: {error}). Expected a name of "
            "https://www.tensorflow.org/datasets/catalog with its configuration, such as "
            "wmt14_translate/de-en; or prepare it elsewhere and use --tfds_dir."
        ) from error
    return str(builder.data_dir)


def open_tfds(directory: str) -> Any:
    """Returns TFDS's builder of a prepared data set.

    Args:
        directory: the folder of the prepared version, which contains dataset_info.json.

    Raises:
        UsageError: it cannot be opened.
    """
    tfds = import_tfds()
    try:
        builder = tfds.builder_from_directory(directory)
        len(builder.info.features)  # parses its files
    except Exception as error:  # its parsers raise any type of exception
        raise UsageError(f"{directory}: TFDS cannot open this data set ({error}).") from error
    return builder


def hash_records(directory: str) -> dict[str, str]:
    """Returns a hash of each file of records, by name.

    Raises:
        UsageError: there are no records.
    """
    paths = sorted(glob.glob(os.path.join(glob.escape(directory), "*record*")))
    if not paths:
        raise UsageError(f"{directory}: no records of a TFDS data set in it. Prepare it again.")
    return {os.path.basename(path): hash_file(path) for path in paths}


def num_examples(builder: Any, split: str) -> int:
    """Returns the size of a split, "train", or of a part of one, "train[:90%]".

    Raises:
        UsageError: there is no such split.
    """
    return sum(len(part) for _, part in _parts(builder, split))


def examples(builder: Any, split: str, start: int = 0, end: int | None = None) -> Iterator[Any]:
    """Yields the examples of a split in the order of the files, as arrays.

    Args:
        builder: the prepared data set.
        split: a split, "train", or a part of one, "train[:90%]".
        start: number of the first example to yield.
        end: number of the first example not to yield; None for all.

    Raises:
        UsageError: there is no such split, or its files are damaged or incomplete.
    """
    import tensorflow as tf  # TFDS imports it to read anyway

    tfds = import_tfds()
    count = 0
    for name, part in _parts(builder, split):
        numbers = part[max(start, 0) : None if end is None else max(end, 0)]
        start, end = start - len(part), None if end is None else end - len(part)
        if not numbers:
            continue
        wanted = tfds.core.ReadInstruction(name, from_=numbers.start, to=numbers.stop, unit="abs")
        try:
            # Reads one file after the other, so that the order does not depend on timing.
            dataset = builder.as_dataset(
                split=wanted,
                shuffle_files=False,
                read_config=tfds.ReadConfig(interleave_cycle_length=1),
            )
            # TFDS itself raises if the number of examples differs from that in dataset_info.json.
            for example in tfds.as_numpy(dataset):
                yield example
                count += 1
        except (tf.errors.OpError, NotImplementedError) as error:
            why = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", getattr(error, "message", str(error)))
            raise UsageError(
                f"{builder.data_dir}: {split} cannot be read after {count:,} examples ({why}). "
                "Prepare it again."
            ) from error


def _parts(builder: Any, split: str) -> list[tuple[str, range]]:
    """Returns the splits that make up a split, with the numbers of the examples of each."""
    splits = builder.info.splits
    try:
        found = import_tfds().core.ReadInstruction.from_spec(split).to_absolute(splits)
        return [
            (part.splitname, range(splits[part.splitname].num_examples)[part.from_ : part.to])
            for part in found
        ]
    except (ValueError, KeyError, AssertionError) as error:
        there = ", ".join(f"{name} ({info.num_examples:,})" for name, info in splits.items())
        raise UsageError(
            f"{builder.data_dir}: no split {split!r} ({error}). It has {there or 'none'}. A "
            "part of a split is written train[:95%] or train[95%:]."
        ) from error
