"""Writes a data set of generated samples of any kind: one shard for each split."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from t2t_vqem.constants import SPLITS, UsageError
from t2t_vqem.data.building import check_shard
from t2t_vqem.data.progress import Progress
from t2t_vqem.data.records import RecordWriter, Schema, lengths_file
from t2t_vqem.files import replacing, writing


class Samples:
    """Samples that a program generates, in the splits train, dev and test.

    Args:
        name: name of the problem, for messages.
        schema: the arrays of each sample.
        generate: returns the samples of a split from the first one on, as dicts of arrays.
        version: must change when the samples change; None: the samples are hashed instead.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        generate: Callable[[str], Iterable[Mapping[str, Any]]],
        version: str | None = None,
    ):
        self.schema = schema
        self._name = name
        self._generate = generate
        self._version = version

    def describe(self) -> str:
        """Returns the source of the samples, for messages."""
        return "generated samples"

    def fingerprint(self) -> dict[str, str]:
        """Returns hashes that change with the samples, by the name of what they cover."""
        if self._version is not None:
            return {"generator": self._version}
        return {f"{split} samples": self._digest(split) for split in SPLITS}

    def _digest(self, split: str) -> str:
        digest = hashlib.sha256()
        for sample in self.samples(split):
            digest.update(self.schema.encode(sample))
        return digest.hexdigest()

    def samples(self, split: str) -> Iterator[Mapping[str, Any]]:
        """Returns the samples of a split in order.

        Raises:
            UsageError: a sample does not match the schema.
        """
        for number, sample in enumerate(self._generate(split)):
            try:
                self.schema.encode(sample)
            except ValueError as error:
                raise UsageError(f"{self._name}: sample {number} of {split}: {error}") from error
            yield sample


def build_samples(
    directory: str, scratch: str, source: Samples, *, progress: bool
) -> dict[str, Any]:
    """Writes records, and lengths if the size of an array varies.

    Args:
        directory: folder for the data; splits that a killed run finished are reused.
        scratch: folder for unfinished files.
        source: the samples.
        progress: whether to show progress.

    Returns:
        The entries of the manifest about the data: schema, splits.

    Raises:
        UsageError: a split is empty, or a sample does not match the schema.
        OSError: the disk is full.
    """
    splits = {}
    for split in SPLITS:
        shard, lengths = f"{split}-00000-of-00001.array_record", lengths_file(split)
        result = os.path.join(scratch, lengths)  # exists if the split is finished
        if not os.path.exists(result):
            _write_split(directory, scratch, source, split, shard, progress)
        count = len(np.load(result))
        check_shard(os.path.join(directory, shard), count, source.schema)
        if not count:
            raise UsageError(
                f"{source.describe()}: the {split} split is empty, expected at least one sample."
            )
        if any(None in field.shape for field in source.schema.fields):
            shutil.copy(result, os.path.join(directory, lengths))
        splits[split] = {"shards": [shard], "num_examples": count}
    return {"schema": source.schema.to_json(), "splits": splits}


def build_sample_shard(
    directory: str,
    scratch: str,
    source: Samples,
    *,
    shard: int,
    num_shards: int,
    progress: bool,
) -> tuple[int, int]:
    """Writes every `num_shards`-th split, from the one with the number `shard` on.

    The other arguments are those of `build_samples`, which combines the splits.

    Returns:
        The number of finished splits, including those of other shards, and of all splits.
    """
    results = {split: os.path.join(scratch, lengths_file(split)) for split in SPLITS}
    for split in SPLITS[shard::num_shards]:
        if not os.path.exists(results[split]):
            name = f"{split}-00000-of-00001.array_record"
            _write_split(directory, scratch, source, split, name, progress)
    return sum(map(os.path.exists, results.values())), len(results)


def _write_split(
    directory: str, scratch: str, source: Samples, split: str, shard: str, progress: bool
) -> None:
    sizes = []
    with (
        Progress(f"writing {split}", None, "samples", enabled=progress) as bar,
        replacing(os.path.join(directory, shard), folder=scratch) as unfinished,
        RecordWriter(unfinished, source.schema) as writer,
    ):
        for sample in source.samples(split):
            writer.write(sample)
            sizes.append(_length(sample, source.schema))
            bar.advance(1)
    with writing(os.path.join(scratch, lengths_file(split))) as file:
        np.save(file, np.array(sizes, np.int32).reshape(-1, 1))


def _length(sample: Mapping[str, Any], schema: Schema) -> int:
    """Returns the length of a sample: the largest of its variable sizes."""
    sizes = [
        size
        for field in schema.fields
        for size, fixed in zip(np.shape(sample[field.name]), field.shape, strict=True)
        if fixed is None
    ]
    return max(sizes, default=1)
