"""Reads images of any size and any common format from a folder."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from t2t_vqem.constants import DEV, TEST, TRAIN, UsageError
from t2t_vqem.data.image_source import ImageSource, Unreadable, hold_out
from t2t_vqem.data.progress import Progress
from t2t_vqem.data.text_source import hash_file
from t2t_vqem.extras import import_extra

CROP = "crop"
RESIZE = "resize"
FITS = (CROP, RESIZE)
SUFFIXES = (  # in upper or lower case
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)

# Possible names of the folder of each split.
_FOLDERS = {TRAIN: ("train",), DEV: ("dev", "val", "valid", "validation"), TEST: ("test",)}
_SHOWN = 10  # the largest number of names in a message


class UnreadableImageError(UsageError):
    """A file that cannot be read as an image."""


class FolderImages(ImageSource):
    """The image files in a folder and in all folders below it.

    The subfolders train, dev and test are the splits, whatever the case of their letters. If dev or
    test has no folder, it is held out from train. If there is no train either, dev and test are
    held out from all images.

    Args:
        folder: the folder.
        shape: height, width and channels to fit every image to.
        fit: the method of fitting, see `read_image`.
        held_out: the shares of dev and test, of the images that can be read, for those that have no
            folder.
        seed: seed of the choice of held-out images, see `image_source.hold_out`.
        drop_unreadable: whether to drop files that cannot be read instead of raising an error.

    Raises:
        UsageError: there are no images, or none for one of the splits.
    """

    def __init__(
        self,
        folder: str,
        *,
        shape: tuple[int, int, int],
        fit: str,
        held_out: Mapping[str, float],
        seed: int,
        drop_unreadable: bool,
    ):
        import_extra("PIL.Image", "images")  # before anything is read
        self._folder = folder
        self._shape = shape
        self._fit = fit
        self._held_out = dict(held_out)
        self._seed = seed
        self._drop_unreadable = drop_unreadable
        images, others = find_images(folder)
        folders = _split_folders(folder)
        self._renamed = {name: split for split, name in folders.items() if name != name.lower()}
        self._given = _given_splits(folder, folders, images, others)
        self._check_shares()
        given = {name for names in self._given.values() for name in names}
        self._left_out = [name for name in sorted([*images, *others]) if name not in given]

    def _check_shares(self) -> None:
        for split, share in self._held_out.items():
            if split not in self._given and not share:
                raise UsageError(
                    f"{split}_share=0, and {self._folder} has no folder {split}: there would be no "
                    f"image in {split}. Give a share above 0, or put images into a folder {split}."
                )

    @functools.cached_property
    def _digests(self) -> dict[str, bytes]:
        """A hash of each file."""
        names = [name for names in self._given.values() for name in names]
        digests = {}
        with Progress("hashing", len(names), "files") as bar:
            for name in names:
                digests[name] = self._digest(name)
                bar.advance(1)
        return digests

    def _digest(self, name: str) -> bytes:
        try:
            return bytes.fromhex(hash_file(os.path.join(self._folder, name)))
        except UsageError:
            if not self._drop_unreadable:
                raise
            return b""

    @functools.cached_property
    def _splits(self) -> dict[str, list[str]]:
        """Files of each split; unreadable ones are in train or in the split of their folder."""
        names = self._given[TRAIN]
        shares = {split: x for split, x in self._held_out.items() if split not in self._given}
        if not shares:
            return self._given
        readable = self._readable(names) if self._drop_unreadable else names
        sizes = {split: max(1, round(share * len(readable))) for split, share in shares.items()}
        divided = hold_out([self._digests[name] for name in readable], sizes, self._seed)
        held_out = {split: [readable[n] for n in divided[split]] for split in sizes}
        taken = {name for split in held_out.values() for name in split}
        return {
            **self._given,
            **held_out,
            TRAIN: [name for name in names if name not in taken],
        }

    def _readable(self, names: Sequence[str]) -> list[str]:
        """Returns the files that can be read: shares are of these. Each file is read for it."""
        paths = [os.path.join(self._folder, name) for name in names]
        with Progress("checking", len(names), "images") as bar, ThreadPoolExecutor() as pool:
            readable = []
            for name, is_readable in zip(names, pool.map(self._is_readable, paths), strict=True):
                readable += [name] if is_readable else []
                bar.advance(1)
        return readable

    def _is_readable(self, path: str) -> bool:
        try:
            read_image(path, self._shape, self._fit)
        except UnreadableImageError:
            return False
        return True

    def describe(self) -> str:
        return f"images in {self._folder}"

    def fingerprint(self) -> dict[str, str]:
        digest = hashlib.sha256()
        for name, content in sorted(self._digests.items()):
            digest.update(name.encode(errors="surrogateescape") + b"\0" + content)
        return {"number of files": str(len(self._digests)), "files": digest.hexdigest()}

    def num_images(self, split: str) -> int:
        return len(self._splits[split])

    def part(self, split: str, start: int, end: int) -> ImageFiles:
        names = self._splits[split][start:end]
        paths = [os.path.join(self._folder, name) for name in names]
        return ImageFiles(
            paths, shape=self._shape, fit=self._fit, drop_unreadable=self._drop_unreadable
        )

    def notes(self) -> list[str]:
        lines = [f"the folder {name} is {split}" for name, split in self._renamed.items()]
        held_out = [split for split in self._held_out if split not in self._given]
        if held_out:
            lines.append(f"held out from the training images: {', '.join(held_out)}")
        if self._left_out:
            lines.append(f"ignored files ({len(self._left_out):,}): {_listing(self._left_out)}")
        return lines


class ImageFiles:
    """Some image files. They are read during iteration.

    Args:
        paths: the files.
        shape: height, width and channels to fit every image to.
        fit: the method of fitting, see `read_image`.
        drop_unreadable: whether to yield `Unreadable` for a file that cannot be read instead of
            raising an error.
    """

    def __init__(
        self, paths: Sequence[str], *, shape: tuple[int, int, int], fit: str, drop_unreadable: bool
    ):
        self._paths = list(paths)
        self._shape = shape
        self._fit = fit
        self._drop_unreadable = drop_unreadable

    def __iter__(self) -> Iterator[np.ndarray | Unreadable]:
        for path in self._paths:
            try:
                yield read_image(path, self._shape, self._fit)
            except UnreadableImageError as error:
                if not self._drop_unreadable:
                    raise UsageError(
                        f"{error} Repair or remove the file, or use "
                        "--problem_params=unreadable=drop to drop and list all such files."
                    ) from error
                yield Unreadable(str(error))


def find_images(folder: str) -> tuple[list[str], list[str]]:
    """Finds the image files and the other files in a folder and in all folders below it.

    Image files are recognised by their suffix, see SUFFIXES. Hidden files and folders, whose names
    begin with a dot, are ignored. Links to folders are followed.

    Returns:
        The image files and the other files: two sorted lists of paths, relative to the folder.

    Raises:
        UsageError: the folder, or one below it, cannot be read, or a link leads to a folder a
            second time.
    """

    def fail(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror}).") from error

    images, others = [], []
    seen: dict[str, str] = {}
    for path, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            raise UsageError(
                f"{path} is the folder {seen[real]} again, by a symbolic link: its images would be "
                "read twice, or without end. Remove the link."
            )
        seen[real] = path
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                found = images if name.lower().endswith(SUFFIXES) else others
                found.append(os.path.relpath(os.path.join(path, name), folder))
    return sorted(images), sorted(others)


def _split_folders(folder: str) -> dict[str, str]:
    """Returns the names of the folders that are splits, in whatever case of letters."""
    there = [name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))]
    folders = {}
    for split, names in _FOLDERS.items():
        for name in names:  # the first one there is counts
            found = sorted(other for other in there if other.lower() == name)
            if len(found) > 1:
                raise UsageError(
                    f"{folder} holds the folders {' and '.join(found)}, expected one of them: each "
                    f"would be {split}."
                )
            if found:
                folders[split] = found[0]
                break
    return folders


def _given_splits(
    folder: str, folders: Mapping[str, str], images: Sequence[str], others: Sequence[str]
) -> dict[str, list[str]]:
    """Returns the image files of the splits that have a folder, and always those of train."""
    if folders and TRAIN not in folders:
        raise UsageError(
            f"{folder} holds the folder {' and '.join(folders.values())} but no folder train. Put "
            "the training images into train, or all images into one folder of another name."
        )
    if not folders:
        given = {TRAIN: list(images)}
    else:
        given = {
            split: [path for path in images if path.startswith(name + os.sep)]
            for split, name in folders.items()
        }
    for split, names in given.items():
        if not names:
            where = os.path.join(folder, folders.get(split, ""))
            raise UsageError(
                f"{where}: no images in it, looked for files that end in {' '.join(SUFFIXES)}. "
                f"{folder} holds {_listing([*images, *others]) or 'nothing'}."
            )
    return given


def _listing(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def read_image(path: str, shape: tuple[int, int, int], fit: str = CROP) -> np.ndarray:
    """Reads an image file and fits it to a shape.

    The image is rotated according to its EXIF orientation. Transparent pixels become white, and
    more than 8 bits are reduced to 8. If the file has several frames, the first one is used.

    Args:
        path: the file.
        shape: height, width and channels; with 1 channel the image becomes greyscale.
        fit: "crop" scales the image to cover the shape and crops it at the centre; "resize" scales
            height and width independently. An image that has the size already does not change.

    Returns:
        uint8 [height, width, channels].

    Raises:
        UnreadableImageError: the file is not an image, is truncated or damaged, or cannot be
            opened.
    """
    pil = import_extra("PIL.Image", "images")
    operations = import_extra("PIL.ImageOps", "images")
    try:
        with pil.open(path) as file:
            # Decodes a large JPEG at a reduced size, which is several times as fast.
            file.draft(None, (2 * max(shape[:2]), 2 * max(shape[:2])))
            upright = operations.exif_transpose(file)
        return _fitted(pil, upright, shape, fit)
    except Exception as error:  # its decoders raise any type of exception
        why = getattr(error, "strerror", None) or error
        if isinstance(error, pil.UnidentifiedImageError):
            why = "its format is unknown to Pillow"
        raise UnreadableImageError(f"{path}: cannot be read as an image ({why}).") from error


def fit_image(pixels: np.ndarray, shape: tuple[int, int, int], fit: str, where: str) -> np.ndarray:
    """Fits the pixels of an image to a shape, as `read_image` does.

    Args:
        pixels: uint8 or uint16 [height, width, 1, 3 or 4]; 4 channels: the last is transparency.
        shape: height, width and channels.
        fit: as in `read_image`.
        where: the image's name in messages.

    Returns:
        uint8 [height, width, channels]; pixels of this shape do not change.

    Raises:
        UsageError: the pixels are something else.
    """
    if (pixels.dtype, pixels.shape) == (np.uint8, shape):
        return pixels
    pil = import_extra("PIL.Image", "images")
    try:
        image = pil.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return _fitted(pil, image, shape, fit)
    except Exception as error:  # Pillow raises any type of exception
        raise UsageError(
            f"{where} is {pixels.dtype} {list(pixels.shape)}, expected 8 or 16 bits and 1, 3 or 4 "
            f"channels ({error})."
        ) from error


def _fitted(pil, image, shape: tuple[int, int, int], fit: str) -> np.ndarray:
    height, width, channels = shape
    image = _flatten(pil, image, "L" if channels == 1 else "RGB")
    if fit == RESIZE:
        image = image.resize((width, height), pil.Resampling.LANCZOS)
    else:
        operations = import_extra("PIL.ImageOps", "images")
        image = operations.fit(image, (width, height), pil.Resampling.LANCZOS)
    return np.asarray(image, np.uint8).reshape(shape)


def _flatten(pil, image, mode: str):
    """Converts an image to 8 bits without transparency, in the mode "L" or "RGB"."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= 1 << 16:
            raise ValueError(f"pixels from {values.min()} to {values.max()}, expected 16 bits")
        image = pil.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers, expected 8 or 16 bits")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        image = pil.new("RGBA", picture.size, "white")
        image.alpha_composite(picture)
    return image.convert(mode)
