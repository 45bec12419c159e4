"""The base classes of problems and data sets of images."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from t2t_vqem.capabilities import ImageModel
from t2t_vqem.constants import SPLITS, UsageError
from t2t_vqem.data import image_building
from t2t_vqem.data.image_folder import read_image
from t2t_vqem.data.image_source import ArrayImages, ImageSource
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.problem import Dataset, Problem, SourceFlags


class ImageDataset(Dataset):
    """Images of one size."""

    problem: ImageProblem

    def images(self, split: str, *, limit: int | None = None) -> np.ndarray:
        """Returns the images of a split, uint8 [N, height, width, channels].

        Args:
            split: train, dev or test.
            limit: the largest N; the images are spread evenly over the split. None: all images.

        Raises:
            UsageError: the split is empty.
        """
        records = self.records(split)
        total = len(records)
        count = total if limit is None else min(limit, total)
        if not count:
            raise UsageError(
                f"the {split} split of {self.problem.name} is empty, expected at least one image"
            )
        indices = np.arange(count) * total // count
        return self.problem.make_batch(records.read(indices), 1)["images"]


class ImageProblem(Problem):
    """Images of one size.

    A subclass defines `image_shape`, the size, and either `generate_samples`, which yields images
    that fit into memory, or `source`, which returns a `data.image_source.ImageSource`.
    """

    dataset_class = ImageDataset
    needs = ImageModel
    for_own_files = "image_folder"

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels (1 or 3) of each image."""

    def generate_samples(self, split: str) -> Iterable[np.ndarray]:
        """Returns the images of a split, uint8 of `image_shape`; see `Problem.generate_samples`."""
        return super().generate_samples(split)

    def source(self, flags: SourceFlags) -> ImageSource:
        """Returns the source of the images; see `Problem.source`."""
        del flags
        return ArrayImages(
            f"images of {self.name}", lambda: {split: self._generated(split) for split in SPLITS}
        )

    def _generated(self, split: str) -> np.ndarray:
        """Checks and returns the generated images, uint8 [n, height, width, channels]."""
        images = [np.asarray(image) for image in self.generate_samples(split)]
        for number, image in enumerate(images):
            if (image.dtype, image.shape) != (np.uint8, self.image_shape):
                raise UsageError(
                    f"{self.name}: image {number} of {split} is {image.dtype} "
                    f"{list(image.shape)}, expected uint8 {list(self.image_shape)}"
                )
        return np.array(images, np.uint8).reshape(-1, *self.image_shape)

    def build(
        self, directory: str, scratch: str, source: ImageSource, *, num_workers: int, progress: bool
    ) -> dict[str, Any]:
        """Writes the records and the report; see `Problem.build`."""
        return image_building.build_images(
            directory,
            scratch,
            source,
            self.image_shape,
            num_workers=num_workers,
            progress=progress,
        )

    def build_shard(
        self, directory: str, scratch: str, source: ImageSource, **shard: Any
    ) -> tuple[int, int]:
        """Writes a share of the records; see `Problem.build_shard`."""
        return image_building.build_image_shard(
            directory, scratch, source, self.image_shape, **shard
        )

    def model_arguments(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Returns the shape of the images."""
        del vocabulary
        return {"image_shape": self.image_shape}

    def read_image(self, path: str) -> np.ndarray:
        """Reads an image of any size from a file and converts it to `image_shape`.

        Returns:
            uint8 [height, width, channels].

        Raises:
            UsageError: the file cannot be read; the message names it.
        """
        return read_image(path, self.image_shape)

    def make_batch(
        self, records: Sequence[dict[str, np.ndarray] | None], length: int
    ) -> dict[str, np.ndarray]:
        """Returns a batch of images, and a mask of the rows that hold one.

        Args:
            records: one for each row; None gives a row of zeros.
            length: unused, because images have no positions.

        Returns:
            "images", uint8 [rows, height, width, channels]; "mask", bool [rows].
        """
        del length
        images = np.zeros((len(records), *self.image_shape), np.uint8)
        mask = np.zeros(len(records), bool)
        for row, record in enumerate(records):
            if record is not None:
                images[row] = record[image_building.IMAGE]
                mask[row] = True
        return {"images": images, "mask": mask}
