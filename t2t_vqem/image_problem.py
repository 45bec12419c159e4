"""The base class of problems of images."""

from __future__ import annotations

import abc
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from t2t_vqem.data import image_building
from t2t_vqem.data.image_folder import read_image
from t2t_vqem.data.image_source import ImageSource
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.problem import Problem


class ImageProblem(Problem):
    """Images of one size.

    A subclass says the size, in `image_shape`, and where the images come from, in `source`, which
    returns a `data.image_source.ImageSource`.
    """

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels (1 or 3) of each image."""

    @abc.abstractmethod
    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> ImageSource:
        """Returns where the images come from; see `Problem.source`."""

    def build(
        self, directory: str, scratch: str, source: ImageSource, *, num_workers: int, progress: bool
    ) -> dict[str, Any]:
        """Writes records and the report; see `Problem.build`."""
        return image_building.build_images(
            directory,
            scratch,
            source,
            self.image_shape,
            num_workers=num_workers,
            progress=progress,
        )

    def model_arguments(self, vocabulary: Vocabulary | None) -> dict[str, Any]:
        """Returns the shape of the images."""
        del vocabulary
        return {"image_shape": self.image_shape}

    def report(self, data_dir: str) -> str:
        """Returns what was kept and what was dropped, in words; also in report.txt."""
        self.manifest(data_dir)  # raises where there is no data
        path = os.path.join(self.dir(data_dir), image_building.REPORT)
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n")

    def read_image(self, path: str) -> np.ndarray:
        """Returns the image in a file of any size as the problem's images are.

        Returns:
            uint8 [height, width, channels].

        Raises:
            UsageError: it cannot be read; the message names the file.
        """
        return read_image(path, self.image_shape)

    def make_batch(
        self, records: Sequence[dict[str, np.ndarray] | None], length: int
    ) -> dict[str, np.ndarray]:
        """Returns the images, and which rows hold one.

        Args:
            records: one for each row; None gives a row of zeros.
            length: not used, images have no positions.

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
