"""Where images come from: arrays in memory or a TFDS data set. Folders: see `image_folder`.

An image is uint8 [height, width, channels], with 1 channel (grey) or 3 (red, green, blue).
"""

from __future__ import annotations

import abc
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t2t_vqem.constants import TRAIN, UsageError
from t2t_vqem.data.text_source import import_tfds


class Unreadable(NamedTuple):
    """Stands for an image that cannot be read and is to be dropped."""

    reason: str  # names the file


class ImageSource(abc.ABC):
    """Images in the splits train, dev and test, each split in a fixed order."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Returns where the images come from, for messages."""

    @abc.abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Returns hashes that change when the images do, by the name of what they cover."""

    @abc.abstractmethod
    def num_images(self, split: str) -> int:
        """Returns how many images a split has."""

    @abc.abstractmethod
    def part(self, split: str, start: int, end: int) -> Iterable[np.ndarray | Unreadable]:
        """Returns the images `start` to `end` of a split.

        What is returned can be pickled and iterated over in another process, and only that
        does the work. Iterating raises a UsageError where an image cannot be used.
        """

    def notes(self) -> list[str]:
        """Returns what the report should say about the source, a line each."""
        return []


class ArrayImages(ImageSource):
    """Images of one size that fit into memory.

    Args:
        description: where they come from, for messages.
        load: returns the images of each split, uint8 [n, H, W, channels]. Called once, and not
            before they are needed.
        notes: for the report.
    """

    def __init__(
        self,
        description: str,
        load: Callable[[], Mapping[str, np.ndarray]],
        *,
        notes: Sequence[str] = (),
    ):
        self._description = description
        self._load = load
        self._notes = list(notes)

    @functools.cached_property
    def _images(self) -> Mapping[str, np.ndarray]:
        return self._load()

    def describe(self) -> str:
        return self._description

    def fingerprint(self) -> dict[str, str]:
        # Of the pixels, not of the files: another packing of the same images changes nothing.
        return {
            f"{split} images": hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
            for split, images in self._images.items()
        }

    def num_images(self, split: str) -> int:
        return len(self._images[split])

    def part(self, split: str, start: int, end: int) -> np.ndarray:
        return self._images[split][start:end]

    def notes(self) -> list[str]:
        return self._notes


def hold_out_images(
    images: np.ndarray, sizes: Mapping[str, int], seed: int
) -> dict[str, np.ndarray]:
    """Divides images [n, ...] among the splits in `sizes` and train; see `hold_out`."""
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    return {split: images[numbers] for split, numbers in hold_out(digests, sizes, seed).items()}


def hold_out(digests: Sequence[bytes], sizes: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Divides examples among the splits in `sizes` and train, which gets what is left.

    Where an example goes follows from the contents and the seed alone: not from the order of the
    examples, nor from names. Copies of one example all go to the same split.

    Args:
        digests: a hash of each example's content.
        sizes: how many examples each split gets; copies of its last one come on top.
        seed: chooses among the divisions.

    Returns:
        For each split, the numbers of its examples, rising.

    Raises:
        UsageError: nothing is left for train.
    """
    draws = [hashlib.sha256(f"{seed} ".encode() + digest).digest() for digest in digests]
    order = sorted(range(len(draws)), key=draws.__getitem__)
    splits = {}
    start = 0
    for split, size in sizes.items():
        end = start + size
        while start < end < len(order) and draws[order[end]] == draws[order[end - 1]]:
            end += 1
        splits[split] = sorted(order[start:end])
        start = end
    if start >= len(order):
        wanted = " and ".join(f"{size:,} for {split}" for split, size in sizes.items())
        raise UsageError(
            f"{len(digests):,} images, of which {wanted} are to be held out: none is left to "
            "train on. Hold out fewer, or add images."
        )
    return {**splits, TRAIN: sorted(order[start:])}


def read_tfds(
    directory: str, splits: Sequence[str], shape: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """Reads the images of an image data set that TFDS has prepared, never the network.

    Args:
        directory: the prepared version, the folder with dataset_info.json.
        splits: TFDS's names of the splits to read.
        shape: height, width and channels that the images must have.

    Returns:
        For each split, uint8 [n, *shape], in the order of the files.

    Raises:
        UsageError: another data set, or one that is damaged or not complete.
    """
    tfds = import_tfds()
    try:
        builder = tfds.builder_from_directory(directory)
        features = builder.info.features
        found = tuple(features["image"].shape) if "image" in features else "none"
    except Exception as error:  # of whatever kind its parsers raise
        raise UsageError(f"{directory}: no data set that TFDS can open ({error}).") from error
    if found != shape:
        raise UsageError(
            f"{directory}: shape of the images is {found}, expected {shape}: this is "
            f"{builder.info.full_name}, another data set."
        )
    there = builder.info.splits
    missing = [split for split in splits if split not in there]
    if missing:
        raise UsageError(
            f"{directory}: has no split {missing[0]}, expected {', '.join(splits)}; it has "
            f"{', '.join(there) or 'none'}."
        )
    return {split: _read_tfds_split(tfds, builder, split, shape, directory) for split in splits}


def _read_tfds_split(
    tfds, builder, split: str, shape: tuple[int, int, int], directory: str
) -> np.ndarray:
    import tensorflow as tf  # brought by TFDS's reading anyway

    images = np.empty((builder.info.splits[split].num_examples, *shape), np.uint8)
    count = 0
    try:
        # One file after the other: the order must not depend on timing.
        dataset = builder.as_dataset(
            split=split,
            shuffle_files=False,
            read_config=tfds.ReadConfig(interleave_cycle_length=1),
        )
        # TFDS itself raises where there are not as many as its dataset_info.json says.
        for example in tfds.as_numpy(dataset):
            images[count] = example["image"]
            count += 1
    except (tf.errors.OpError, NotImplementedError) as error:
        why = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", getattr(error, "message", str(error)))
        raise UsageError(
            f"{directory}: {split} cannot be read after {count:,} images ({why}). Prepare it again."
        ) from error
    return images
