"""Writes the records of an image data set.

Each split is written in parts, on all cores. A part is written completely or not at all, even if
the process is killed. The result depends only on the images, not on the number of workers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from t2t_vqem.constants import SPLITS, UsageError
from t2t_vqem.data.building import REPORT, check_shard, remove_unfinished
from t2t_vqem.data.image_source import ImageSource, Unreadable
from t2t_vqem.data.progress import Progress
from t2t_vqem.data.records import Field, RecordWriter, Schema
from t2t_vqem.data.workers import check_parent, run_parts
from t2t_vqem.files import replacing, write_json

IMAGE = "image"

# Limits of the size of a part. Parts are larger if there would be more than _MAX_PARTS of them.
_PART_IMAGES = 2048
_PART_BYTES = 1 << 25
_MAX_PARTS = 256
_SHOWN_DROPS = 20


class _Part(NamedTuple):
    """The images of one shard."""

    directory: str
    scratch: str
    split: str
    number: int
    num_parts: int
    num_images: int
    shape: tuple[int, int, int]
    images: Iterable[np.ndarray | Unreadable]

    @property
    def shard(self) -> str:
        return f"{self.split}-{self.number:05}-of-{self.num_parts:05}.array_record"

    @property
    def result(self) -> str:
        """The file that marks the part as finished and lists its dropped images."""
        return os.path.join(self.scratch, f"{self.split}-{self.number:05}.json")


def build_images(
    directory: str,
    scratch: str,
    source: ImageSource,
    shape: tuple[int, int, int],
    *,
    num_workers: int,
    progress: bool,
) -> dict[str, Any]:
    """Writes records and the report.

    Args:
        directory: the folder to write to. Finished parts of an earlier run with the same source and
            shape are reused.
        scratch: a folder for temporary files, kept between runs.
        source: the images.
        shape: height, width and channels of each image.
        num_workers: number of processes.
        progress: whether to show the progress.

    Returns:
        The entries of the manifest about the data: schema, splits.

    Raises:
        UsageError: an image cannot be used (the message names its file), or a split is empty.
        OSError: the disk is full.
    """
    remove_unfinished(scratch)
    parts = [part for s in SPLITS for part in _parts(directory, scratch, source, s, shape)]
    _write_parts(parts, num_workers, progress)
    for part in parts:
        check_shard(
            os.path.join(directory, part.shard),
            part.num_images - len(_dropped([part])),
            schema(shape),
        )
    dropped = {split: _dropped(part for part in parts if part.split == split) for split in SPLITS}
    splits = {}
    for split in SPLITS:
        count = source.num_images(split)
        splits[split] = {
            "shards": [part.shard for part in parts if part.split == split],
            "num_examples": count - len(dropped[split]),
            "dropped": len(dropped[split]),
        }
    report = "\n".join([*_describe(splits, dropped, shape), *source.notes()])
    empty = [split for split in SPLITS if not splits[split]["num_examples"]]
    if empty:
        raise UsageError(f"{source.describe()}: no image is left in {empty[0]}:\n{report}")
    with open(
        os.path.join(directory, REPORT), "w", encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(report + "\n")
    return {"schema": schema(shape).to_json(), "splits": splits}


def build_image_shard(
    directory: str,
    scratch: str,
    source: ImageSource,
    shape: tuple[int, int, int],
    *,
    shard: int,
    num_shards: int,
    num_workers: int,
    progress: bool,
) -> tuple[int, int]:
    """Writes every `num_shards`-th part, from the one with the number `shard` on.

    The other arguments are those of `build_images`, which combines the parts.

    Returns:
        The number of finished parts, including those of other shards, and of all parts.
    """
    parts = [part for s in SPLITS for part in _parts(directory, scratch, source, s, shape)]
    _write_parts(parts[shard::num_shards], num_workers, progress)
    return sum(os.path.exists(part.result) for part in parts), len(parts)


def _write_parts(parts: list[_Part], num_workers: int, progress: bool) -> None:
    total = sum(part.num_images for part in parts)
    with Progress("writing", total, "images", enabled=progress) as bar:
        run_parts(_write_part, parts, lambda part: part.num_images, num_workers, bar)


def schema(shape: tuple[int, int, int]) -> Schema:
    """Returns the schema of a record: "image", uint8 [height, width, channels]."""
    return Schema([Field(IMAGE, "uint8", shape)])


def _parts(
    directory: str, scratch: str, source: ImageSource, split: str, shape: tuple[int, int, int]
) -> list[_Part]:
    """Divides a split into parts, depending only on the number of images and their size."""
    total = source.num_images(split)
    size = max(1, min(_PART_IMAGES, _PART_BYTES // math.prod(shape)), -(-total // _MAX_PARTS))
    starts = range(0, total, size)
    return [
        _Part(
            directory,
            scratch,
            split,
            number,
            len(starts),
            min(size, total - start),
            shape,
            source.part(split, start, min(start + size, total)),
        )
        for number, start in enumerate(starts)
    ]


def _write_part(part: _Part) -> None:
    """Writes the images of a part to its shard, in a worker process."""
    shard = os.path.join(part.directory, part.shard)
    dropped = []
    # Shared, because a worker whose parent was killed may still be writing the same part.
    with (
        replacing(shard, folder=part.scratch, shared=True) as unfinished,
        RecordWriter(unfinished, schema(part.shape)) as writer,
    ):
        for image in part.images:
            check_parent()
            if isinstance(image, Unreadable):
                # Names of files may contain bytes that are not UTF-8.
                dropped.append(image.reason.encode(errors="backslashreplace").decode())
            else:
                writer.write({IMAGE: image})
    write_json(part.result, dropped, shared=True)


def _dropped(parts: Iterable[_Part]) -> list[str]:
    """Returns the reason for each dropped image of these parts, with the name of its file."""
    reasons = []
    for part in parts:
        with open(part.result, encoding="utf-8") as file:
            reasons += json.load(file)
    return reasons


def _describe(
    splits: dict[str, Any], dropped: dict[str, list[str]], shape: tuple[int, int, int]
) -> list[str]:
    """Returns the lines of the report about the splits."""
    lines = []
    size = "x".join(map(str, shape))
    for split, numbers in splits.items():
        reasons = dropped[split]
        lines.append(f"{split}: {numbers['num_examples']:,} images of {size}")
        if reasons:
            lines.append(f"  dropped {len(reasons):,} that cannot be read:")
            lines += [f"    {reason}" for reason in reasons[:_SHOWN_DROPS]]
        if len(reasons) > _SHOWN_DROPS:
            lines.append(f"    and {len(reasons) - _SHOWN_DROPS:,} more")
    return lines
