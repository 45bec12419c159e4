"""Sources of images: arrays in memory. See also `image_folder` and `tfds_images`.

An image is uint8 [height, width, channels], with 1 channel (grey) or 3 (red, green, blue).
"""

from __future__ import annotations

import abc
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t2t_vqem.constants import TRAIN, UsageError


class Unreadable(NamedTuple):
    """Takes the place of an image that cannot be read and will be dropped."""

    reason: str  # includes the name of the file


class ImageSource(abc.ABC):
    """Images in the splits train, dev and test, each split in a fixed order."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Returns a description of the source, for messages."""

    @abc.abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Returns hashes that change when the images change, with a name for each."""

    @abc.abstractmethod
    def num_images(self, split: str) -> int:
        """Returns the number of images in a split."""

    @abc.abstractmethod
    def part(self, split: str, start: int, end: int) -> Iterable[np.ndarray | Unreadable]:
        """Returns the images `start` to `end` of a split.

        The result can be pickled and iterated over in another process. Images are read only during
        the iteration, which raises a UsageError for an image that cannot be used.
        """

    def notes(self) -> list[str]:
        """Returns lines about the source for the report."""
        return []


class ArrayImages(ImageSource):
    """Images of one size that fit into memory.

    Args:
        description: description of the source, for messages.
        load: returns the images of each split, uint8 [n, H, W, channels]. It is called once, when
            the images are first needed.
        notes: lines for the report.
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
        # Hashes pixels, not files, so that another file format of the same images has no effect.
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
    """Divides images [n, ...] between the splits in `sizes` and train; see `hold_out`."""
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    return {split: images[numbers] for split, numbers in hold_out(digests, sizes, seed).items()}


def hold_out(digests: Sequence[bytes], sizes: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Divides examples between the splits in `sizes` and train, which gets all others.

    The split of an example depends only on the contents of all examples and the seed, not on the
    order or the names of examples. All copies of an example go to the same split.

    Args:
        digests: a hash of each example's content.
        sizes: number of examples for each split, to which copies of its last example are added.
        seed: seed of the random division.

    Returns:
        For each split, the indices of its examples in ascending order.

    Raises:
        UsageError: no example is left for train.
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
            f"got {len(digests):,} images, of which {wanted} would be held out: none is left for "
            "training. Hold out fewer, or add images."
        )
    return {**splits, TRAIN: sorted(order[start:])}
