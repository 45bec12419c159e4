"""Images: CIFAR-10, the user's own, and handwritten digits that need no download."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from t2t_vqem.constants import DEV, MAX_SEED, TEST, TRAIN, UsageError
from t2t_vqem.data import cifar10
from t2t_vqem.data.image_folder import FITS, FolderImages, read_image
from t2t_vqem.data.image_source import ArrayImages, ImageSource, hold_out_images, read_tfds
from t2t_vqem.data.text_source import find_tfds
from t2t_vqem.extras import import_extra
from t2t_vqem.fields import Config, option
from t2t_vqem.image_problem import ImageProblem
from t2t_vqem.problem import SourceFlags
from t2t_vqem.registry import problems

_CIFAR10 = "cifar10"
_SEED = 0  # of what is held out, so that everybody's dev split is the same


@problems.register()
class ImageCifar10(ImageProblem):
    """CIFAR-10: 60,000 colour images of 32x32; 49,000 to train on, 1,000 as dev, 10,000 to test on.

    From TFDS: prepared in --tfds_dir, or downloaded where neither directory is given. Or from the
    published archives in --source_dir: cifar-10-python.tar.gz or cifar-10-binary.tar.gz, packed or
    unpacked. CIFAR-10 has no dev split of its own. Which images it gets depends on their pixels
    alone: it is the same wherever they come from.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings for CIFAR-10."""

        dev_size: int = option(
            1000,
            "training images held out to choose a checkpoint by; always the same ones",
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
        """Returns the published files, the prepared TFDS data set, or the downloaded one."""
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

        return ArrayImages(where, load, notes=["dev is held out of CIFAR-10's training images"])


@problems.register()
class ImageFolder(ImageProblem):
    """Your own images of any size, in --source_dir, brought to one size by --problem_params or gin.

    The folders train, dev and test in it are the splits; dev and test are held out where they have
    no folder. Common formats (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM); other files are left out.
    Needs the extra "images" (Pillow).
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings for the user's own images."""

        height: int = option(32, "rows of pixels", minimum=1)
        width: int = option(32, "columns of pixels", minimum=1)
        grey: bool = option(False, "one channel of grey, not three of colour")
        fit: str = option(
            "crop",
            "crop: scale until both sides are covered, cut off the same on both sides; resize: "
            "scale each side by itself, which may distort",
            choices=FITS,
        )
        dev_share: float = option(
            0.05, "of the images to train on, held out as dev where it has no folder", minimum=0
        )
        test_share: float = option(
            0.05, "of the images to train on, held out as test where it has no folder", minimum=0
        )
        seed: int = option(
            0,
            "chooses what is held out, by the contents of the files",
            minimum=0,
            maximum=MAX_SEED,
        )
        unreadable: str = option(
            "error",
            "files that cannot be read: error stops at the first, drop leaves them out and lists "
            "them",
            choices=("error", "drop"),
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.dev_share + self.test_share >= 1:
                raise UsageError(
                    f"dev_share={self.dev_share} and test_share={self.test_share} leave nothing to "
                    "train on, expected a sum below 1"
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
        """Returns the image in a file, fitted as the data was; see `ImageProblem.read_image`."""
        return read_image(path, self.image_shape, self.config.fit)


@problems.register()
class ImageDigits(ImageProblem):
    """Handwritten digits, 1,797 grey images of 8x8, which scikit-learn ships (UCI's test set).

    Needs no download, but the extra "demo" (scikit-learn). Values 0 to 16 become 0 to 255. The
    set has no splits: dev and test are held out, always the same images.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings for the digits."""

        dev_size: int = option(150, "images to choose a checkpoint by", minimum=1)
        test_size: int = option(150, "images to test on", minimum=1)

    config: Config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return 8, 8, 1

    @functools.cached_property
    def _images(self) -> dict[str, np.ndarray]:
        """The images of each split, uint8 [n, 8, 8, 1]."""
        datasets = import_extra("sklearn.datasets", "demo")
        values = datasets.load_digits().images  # float64 [n, 8, 8], whole numbers to 16
        images = np.round(values * (255 / 16)).astype(np.uint8)[..., None]
        sizes = {DEV: self.config.dev_size, TEST: self.config.test_size}
        return hold_out_images(images, sizes, _SEED)

    def generate_samples(self, split: str) -> Iterable[np.ndarray]:
        """Returns scikit-learn's images."""
        return self._images[split]
