"""Image problems: CIFAR-10, the user's own images, and digits that need no download."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from t2t_vqem.constants import DEV, MAX_SEED, TEST, TRAIN, UsageError
from t2t_vqem.data import cifar10
from t2t_vqem.data.image_folder import FITS, FolderImages, read_image
from t2t_vqem.data.image_source import ArrayImages, ImageSource, hold_out_images
from t2t_vqem.data.tfds import find_tfds
from t2t_vqem.data.tfds_images import TfdsImages, read_tfds
from t2t_vqem.extras import import_extra
from t2t_vqem.fields import Config, option
from t2t_vqem.image_problem import ImageProblem
from t2t_vqem.problem import SourceFlags
from t2t_vqem.problems.tfds import TfdsConfig
from t2t_vqem.registry import problems

_CIFAR10 = "cifar10"
_SEED = 0  # fixed, so that the held-out images are the same for all users


@problems.register()
class ImageCifar10(ImageProblem):
    """CIFAR-10: 60,000 colour images of 32x32 (49,000 for train, 1,000 for dev, 10,000 for test).

    From TFDS: prepared in --tfds_dir, or downloaded if neither directory is given. Or from the
    published archives in --source_dir: cifar-10-python.tar.gz or cifar-10-binary.tar.gz, packed or
    unpacked. CIFAR-10 has no dev split, so some training images are held out. They are chosen only
    by their pixels, so dev is the same for every source.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings for CIFAR-10."""

        dev_size: int = option(
            1000,
            "number of training images held out as dev; always the same images",
            minimum=1,
            maximum=25_000,
        )

    config: Config
    accepts = ("source_dir", "tfds_dir")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return cifar10.IMAGE_SHAPE

    def source(self, flags: SourceFlags) -> ImageSource:
        """Returns the published files, the prepared TFDS data set, or a downloaded one."""
        if flags.source_dir:
            found = cifar10.find(flags.source_dir)
            where, read = f"CIFAR-10 in {found.path}", functools.partial(cifar10.read, found)
        else:
            directory = find_tfds(flags.tfds_dir, _CIFAR10)
            where = f"TFDS data set {directory}"
            read = functools.partial(read_tfds, directory, (TRAIN, TEST), cifar10.IMAGE_SHAPE)

        def load() -> dict[str, np.ndarray]:
            images = read()
            divided = hold_out_images(images[TRAIN], {DEV: self.config.dev_size}, _SEED)
            return {**divided, TEST: images[TEST]}

        return ArrayImages(where, load, notes=["dev is held out from CIFAR-10's training images"])


@problems.register()
class ImageFolder(ImageProblem):
    """Your own images of any size, in --source_dir, fitted to one size by --problem_params or gin.

    The subfolders train, dev and test are the splits. A dev or test split without a folder is held
    out from the training images. Reads common formats (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM) and
    ignores other files. Needs the extra "images" (Pillow).
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings for the user's own images."""

        height: int = option(32, "height in pixels", minimum=1)
        width: int = option(32, "width in pixels", minimum=1)
        grey: bool = option(False, "greyscale images with one channel instead of three")
        fit: str = option(
            "crop",
            "crop: scale the image to cover the size and crop it at the centre; resize: scale "
            "height and width independently, which may distort",
            choices=FITS,
        )
        dev_share: float = option(
            0.05, "share of the training images held out as dev if it has no folder", minimum=0
        )
        test_share: float = option(
            0.05,
            "share of the training images held out as test if it has no folder",
            minimum=0,
        )
        seed: int = option(0, "seed of the choice of held-out images", minimum=0, maximum=MAX_SEED)
        unreadable: str = option(
            "error",
            "files that cannot be read; error: stop at the first one, drop: drop and list them",
            choices=("error", "drop"),
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.dev_share + self.test_share >= 1:
                raise UsageError(
                    f"dev_share={self.dev_share} and test_share={self.test_share} leave no images "
                    "for training, expected a sum below 1"
                )

    config: Config
    accepts = ("source_dir",)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.config.height, self.config.width, 1 if self.config.grey else 3

    def source(self, flags: SourceFlags) -> ImageSource:
        """Returns the image files in the folder."""
        return FolderImages(
            flags.source_dir,
            shape=self.image_shape,
            fit=self.config.fit,
            held_out={DEV: self.config.dev_share, TEST: self.config.test_share},
            seed=self.config.seed,
            drop_unreadable=self.config.unreadable == "drop",
        )

    def read_image(self, path: str) -> np.ndarray:
        """Reads an image file and fits it like the data; see `ImageProblem.read_image`."""
        return read_image(path, self.image_shape, self.config.fit)


@problems.register()
class ImageTfds(ImageProblem):
    """Any image data set of TensorFlow Datasets by its name, fitted to one size.

    Prepared in --tfds_dir, or downloaded without that flag. Images of other sizes need the extra
    "images" (Pillow). Many data sets have no validation split: set train_split and dev_split.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TfdsConfig):
        """Settings for a data set of TFDS."""

        height: int = option(32, "height in pixels", minimum=1)
        width: int = option(32, "width in pixels", minimum=1)
        grey: bool = option(False, "greyscale images with one channel instead of three")
        fit: str = option("crop", "as in image_folder", choices=FITS)
        feature: str = option("", "feature with the image; '': the only one that is an image")

    config: Config
    accepts = ("tfds_dir",)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.config.height, self.config.width, 1 if self.config.grey else 3

    def source(self, flags: SourceFlags) -> ImageSource:
        """Returns the prepared data set, or a downloaded one."""
        return TfdsImages(
            self.config.find(flags.tfds_dir),
            self.config.splits,
            shape=self.image_shape,
            fit=self.config.fit,
            feature=self.config.feature,
        )

    def read_image(self, path: str) -> np.ndarray:
        """Reads an image file and fits it like the data; see `ImageProblem.read_image`."""
        return read_image(path, self.image_shape, self.config.fit)


@problems.register()
class ImageDigits(ImageProblem):
    """Handwritten digits: 1,797 greyscale images of 8x8, part of scikit-learn (UCI's test set).

    Needs no download, but the extra "demo" (scikit-learn). The values 0 to 16 are scaled to 0 to
    255. The set has no splits; dev and test are held out and are always the same images.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings for the digits."""

        dev_size: int = option(150, "number of images for choosing a checkpoint", minimum=1)
        test_size: int = option(150, "number of images for testing", minimum=1)

    config: Config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return 8, 8, 1

    @functools.cached_property
    def _images(self) -> dict[str, np.ndarray]:
        """The images of each split, uint8 [n, 8, 8, 1]."""
        datasets = import_extra("sklearn.datasets", "demo")
        values = datasets.load_digits().images  # float64 [n, 8, 8], integers from 0 to 16
        images = np.round(values * (255 / 16)).astype(np.uint8)[..., None]
        sizes = {DEV: self.config.dev_size, TEST: self.config.test_size}
        return hold_out_images(images, sizes, _SEED)

    def generate_samples(self, split: str) -> Iterable[np.ndarray]:
        """Returns scikit-learn's images."""
        return self._images[split]
