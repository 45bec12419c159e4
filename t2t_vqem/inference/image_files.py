"""Reads and writes files of images and of codes.

Shapes: N images, H height, W width, L latents of an image, C codebooks.
"""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from t2t_vqem import files
from t2t_vqem.constants import UsageError
from t2t_vqem.data.image_folder import SUFFIXES, find_images

PICTURE = ".png"
ARRAY = ".npy"
ARRAYS = ".npz"
_FORMAT = 1  # format version of files of codes

_SHOWN_SIDE = 64  # smaller images are enlarged to about this size
_GAP = 4
_BACKGROUND = 255

# Exceptions that NumPy raises if a file is damaged or has another format than its name says.
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class ImageSet(NamedTuple):
    """Images from files or arrays."""

    images: np.ndarray  # uint8 [N, H, W, channels]
    names: list[str]  # names of the image files; empty for arrays


class CodeSet(NamedTuple):
    """The codes of images, and the model that encoded them."""

    codes: np.ndarray  # int32 [N, L, C]
    weights: str  # digest of the model's weights, see `images.weights_digest`
    checkpoint: str  # path of the checkpoint, for messages


def image_grid(images: np.ndarray, *, group: int = 1) -> np.ndarray:
    """Arranges images in an approximately square grid.

    Args:
        images: uint8 [N, H, W, channels], at least one image; small images are enlarged.
        group: number of consecutive images that belong together, such as an original and its
            reconstruction. There are gaps only between groups.

    Returns:
        uint8 [height, width, channels].
    """
    scale = max(1, _SHOWN_SIDE // max(images.shape[1:3]))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width, channels = images.shape[1:]
    # [groups, group, H, W, channels] to [groups, H, group * W, channels]
    tiles = images.reshape(-1, group, height, width, channels).transpose(0, 2, 1, 3, 4)
    tiles = tiles.reshape(-1, height, group * width, channels)
    height, width = height + _GAP, group * width + _GAP
    columns = min(len(tiles), max(1, round(math.sqrt(len(tiles) * height / width))))
    rows = -(-len(tiles) // columns)
    cells = np.full([rows * columns, height, width, channels], _BACKGROUND, np.uint8)
    cells[: len(tiles), _GAP:, _GAP:] = tiles
    grid = cells.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    grid = grid.reshape(rows * height, columns * width, channels)
    return np.pad(grid, [(0, _GAP), (0, _GAP), (0, 0)], constant_values=_BACKGROUND)


def side_by_side(originals: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Arranges originals, each with its reconstruction on the right; see `image_grid`."""
    pairs = np.stack([originals, reconstructions], axis=1)
    return image_grid(pairs.reshape(-1, *originals.shape[1:]), group=2)


def encode_png(image: np.ndarray) -> bytes:
    """Encodes an image, uint8 [height, width, channels], as PNG."""
    import tensorflow as tf  # imported here, so that flags are checked before

    return tf.io.encode_png(image).numpy()


def check_output(path: str, suffixes: Sequence[str], flag: str) -> None:
    """Checks that a file can be written, before hours are spent on computing its content.

    Args:
        path: the file. Its folder is created if it does not exist.
        suffixes: possible suffixes of the file name.
        flag: the flag that gives the file.

    Raises:
        UsageError: the file has another suffix or cannot be written.
    """
    if not path.endswith(tuple(suffixes)):
        raise UsageError(f"--{flag}={path}: expected a file that ends in {' or '.join(suffixes)}")
    files.check_output(path, f"--{flag}={path}")


def write_images(
    path: str,
    images: np.ndarray,
    *,
    originals: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> None:
    """Writes images as a picture or as arrays, depending on the suffix of `path`.

    Args:
        path: a .png gets a grid, with `originals` to the left of their reconstructions; a .npy
            the images; a .npz "images", or with originals "images", "reconstructions" and "names".
        images: uint8 [N, H, W, channels].
        originals: the originals if `images` are reconstructions, of the same shape.
        names: names of the originals' files.

    Raises:
        UsageError: the file cannot be written.
    """
    if path.endswith(PICTURE):
        grid = image_grid(images) if originals is None else side_by_side(originals, images)
        with _writing(path) as file:
            file.write(encode_png(grid))
    elif path.endswith(ARRAY):
        with _writing(path) as file:
            np.save(file, images)
    elif originals is None:
        _write_arrays(path, {"images": images})
    else:
        arrays = {"images": originals, "reconstructions": images}
        _write_arrays(path, {**arrays, "names": np.array(names)} if names else arrays)


def write_codes(path: str, codes: CodeSet, names: Sequence[str] = ()) -> None:
    """Writes codes to a .npz, with the model that encoded them and the names of the image files.

    Raises:
        UsageError: the file cannot be written.
    """
    arrays = {
        "format": np.array(_FORMAT),
        "codes": codes.codes.astype(np.int32),
        "weights": np.array(codes.weights),
        "checkpoint": np.array(codes.checkpoint),
    }
    _write_arrays(path, {**arrays, "names": np.array(names)} if names else arrays)


def holds_codes(path: str) -> bool:
    """Returns whether a file contains codes and not images.

    Raises:
        UsageError: it is a .npz file that cannot be read.
    """
    return path.endswith(ARRAYS) and os.path.isfile(path) and "codes" in _read_arrays(path, ())


def read_codes(path: str) -> CodeSet:
    """Reads codes from a file written by `write_codes`.

    Raises:
        UsageError: the file cannot be read, or does not contain codes.
    """
    arrays = _read_arrays(path, ("codes", "weights", "checkpoint", "format"))
    if arrays["format"] != _FORMAT:
        raise UsageError(
            f"{path}: codes in format {arrays['format']}, expected {_FORMAT}. Write them again "
            "with --encode_to_file"
        )
    codes = arrays["codes"]
    if codes.ndim != 3 or not len(codes) or not np.issubdtype(codes.dtype, np.integer):
        raise UsageError(
            f"{path}: codes are {codes.dtype} {list(codes.shape)}, expected integers [images, "
            "latents, codebooks] for at least one image"
        )
    return CodeSet(codes, str(arrays["weights"]), str(arrays["checkpoint"]))


def read_images(
    path: str, shape: tuple[int, int, int], read_image: Callable[[str], np.ndarray]
) -> ImageSet:
    """Reads an image file, the images in a folder (sorted by name), or arrays of images.

    Args:
        path: an image file, a folder, a .npy file, or a .npz file with the array "images".
        shape: (H, W, channels), required for arrays.
        read_image: reads an image file and fits it to the shape, like `ImageProblem.read_image`.

    Raises:
        UsageError: there are no images, or a file is not an image or has another shape.
    """
    if path.endswith((ARRAY, ARRAYS)):
        return ImageSet(_array_of_images(path, tuple(shape)), [])
    if not os.path.isdir(path):
        return ImageSet(read_image(path)[None], [os.path.basename(path)])
    names, _ = find_images(path)
    if not names:
        raise UsageError(f"{path}: no images in it, looked for files in {' '.join(SUFFIXES)}")
    return ImageSet(np.stack([read_image(os.path.join(path, name)) for name in names]), names)


def _array_of_images(path: str, shape: tuple[int, int, int]) -> np.ndarray:
    images = _read_arrays(path, ("images",))["images"] if path.endswith(ARRAYS) else _load(path)
    if shape[2] == 1 and images.ndim == 3:
        images = images[..., None]  # most programs store grey images without a channel axis
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise UsageError(
            f"{path}: images are {images.dtype} {list(images.shape)}, expected uint8 [images, "
            f"{', '.join(map(str, shape))}], the shape that the run was trained on, and at least "
            "one image"
        )
    return images


def _load(path: str) -> np.ndarray | np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except _UNREADABLE as error:
        raise UsageError(f"{path}: cannot be read as arrays ({error})") from error


def _read_arrays(path: str, wanted: Sequence[str]) -> Mapping[str, np.ndarray | None]:
    """Returns the arrays of a .npz by name: the `wanted` ones, and None for all others."""
    loaded = _load(path)
    if isinstance(loaded, np.ndarray):
        raise UsageError(
            f"{path}: got a single array without a name, expected a .npz file. Rename it to .npy"
        )
    with loaded:
        missing = [name for name in wanted if name not in loaded.files]
        if missing:
            raise UsageError(
                f"{path}: has no {', '.join(map(repr, missing))}, only "
                f"{', '.join(map(repr, loaded.files)) or 'nothing'}"
            )
        try:
            return {name: loaded[name] if name in wanted else None for name in loaded.files}
        except _UNREADABLE as error:
            raise UsageError(f"{path}: cannot be read as arrays ({error})") from error


def _write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    with _writing(path) as file:
        np.savez_compressed(file, **arrays)


@contextlib.contextmanager
def _writing(path: str) -> Iterator[BinaryIO]:
    try:
        with files.writing(path) as file:
            yield file
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error
