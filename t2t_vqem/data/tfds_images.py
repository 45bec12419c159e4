"""Images of a TFDS data set: all in memory, or read where they are written to records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t2t_vqem.constants import UsageError
from t2t_vqem.data import tfds
from t2t_vqem.data.image_folder import fit_image
from t2t_vqem.data.image_source import ImageSource


def read_tfds(
    directory: str, splits: Sequence[str], shape: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """Reads the images of an image data set that TFDS has prepared. Never uses the network.

    Args:
        directory: the folder of the prepared version, which contains dataset_info.json.
        splits: TFDS's names of the splits to read.
        shape: expected height, width and channels of the images.

    Returns:
        For each split, uint8 [n, *shape], in the order of the files.

    Raises:
        UsageError: it is another data set, or it is damaged or incomplete.
    """
    builder = tfds.open_tfds(directory)
    features = builder.info.features
    found = tuple(features["image"].shape) if "image" in features else "none"
    if found != shape:
        raise UsageError(
            f"{directory}: the images have the shape {found}, expected {shape}: this is another "
            f"data set, {builder.info.full_name}."
        )
    read = {}
    for split in splits:
        read[split] = np.empty((tfds.num_examples(builder, split), *shape), np.uint8)
        for number, example in enumerate(tfds.examples(builder, split)):
            read[split][number] = example["image"]
    return read


class TfdsImages(ImageSource):
    """An image data set that TFDS has prepared, fitted to one size. Never uses the network.

    Args:
        directory: the folder of the prepared version, which contains dataset_info.json.
        splits: for each split, that of TFDS or a part of it, "train[:90%]".
        shape: height, width and channels to fit every image to.
        fit: the method of fitting, see `image_folder.read_image`.
        feature: name of the feature with the image; "": the only one with images.

    Raises:
        UsageError: it is not a data set of images.
    """

    def __init__(
        self,
        directory: str,
        splits: Mapping[str, str],
        *,
        shape: tuple[int, int, int],
        fit: str,
        feature: str = "",
    ):
        self._directory = directory
        self._splits = splits
        self._builder = tfds.open_tfds(directory)
        self._feature = _find_image(self._builder, feature)
        self._shape, self._fit = shape, fit

    def describe(self) -> str:
        return f"TFDS data set {self._directory}"

    def fingerprint(self) -> dict[str, str]:
        return tfds.hash_records(self._directory)

    def num_images(self, split: str) -> int:
        return tfds.num_examples(self._builder, self._splits[split])

    def part(self, split: str, start: int, end: int) -> TfdsPart:
        return TfdsPart(
            self._directory, self._splits[split], start, end, self._feature, self._shape, self._fit
        )


@dataclasses.dataclass(frozen=True)
class TfdsPart:
    """Some images of a TFDS data set. They are read during iteration, also in another process."""

    directory: str
    split: str
    start: int
    end: int
    feature: str
    shape: tuple[int, int, int]
    fit: str

    def __iter__(self) -> Iterator[np.ndarray]:
        builder = tfds.open_tfds(self.directory)
        found = tfds.examples(builder, self.split, self.start, self.end)
        for number, example in enumerate(found, start=self.start):
            where = f"{self.directory}: image {number} of {self.split}"
            yield fit_image(example[self.feature], self.shape, self.fit, where)


def _find_image(builder: Any, feature: str) -> str:
    """Returns the name of the feature with the image."""
    image = tfds.import_tfds().features.Image
    features = builder.info.features
    names = [name for name, value in features.items() if isinstance(value, image)]
    if feature in names or (not feature and len(names) == 1):
        return feature or names[0]
    raise UsageError(
        f"{builder.data_dir}: feature={feature!r}, expected one of its features with an image: "
        f"{', '.join(names) or 'none'}. It has {', '.join(sorted(features))}."
    )
