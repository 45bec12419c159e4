"""Files of images and of codes: what t2t-decoder reads and writes of them.

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
_FORMAT = 1  # of files of codes

_SHOWN_SIDE = 64  # images of fewer pixels are enlarged to about so many
_GAP = 4
_BACKGROUND = 255

# What NumPy raises where a file is not what its name says, or damaged.
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class ImageSet(NamedTuple):
    """Images that were read, and where each is from."""

    images: np.ndarray  # uint8 [N, H, W, channels]
    names: list[str]  # of their files; empty for arrays


class CodeSet(NamedTuple):
    """The codes of images, and of which model they are."""

    codes: np.ndarray  # int32 [N, L, C]
    weights: str  # digest of the model's weights, see `images.weights_digest`
    checkpoint: str  # where the weights were, for people


def image_grid(images: np.ndarray, *, group: int = 1) -> np.ndarray:
    """Puts images into a grid that is about as wide as high.

    Args:
        images: uint8 [N, H, W, channels], at least one; small ones are enlarged.
        group: how many consecutive images belong together, such as an original and its
            reconstruction: they touch each other, and groups have gaps between them.

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
    """Puts each reconstruction to the right of its original, all in a grid; see `image_grid`."""
    pairs = np.stack([originals, reconstructions], axis=1)
    return image_grid(pairs.reshape(-1, *originals.shape[1:]), group=2)


def encode_png(image: np.ndarray) -> bytes:
    """Returns the PNG file of an image, uint8 [height, width, channels]."""
    import tensorflow as tf  # here, so that flags are checked before TensorFlow is imported

    return tf.io.encode_png(image).numpy()


def check_output(path: str, suffixes: Sequence[str], flag: str) -> None:
    """Checks that a file can be written, before hours are spent on what it is to hold.

    Args:
        path: the file; its folder is made where there is none.
        suffixes: what its name may end in.
        flag: the flag that named it.

    Raises:
        UsageError: another ending, or nothing can be written there.
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
    """Writes images as a picture or as arrays, as the ending of `path` says.

    Args:
        path: a .png gets a grid, with `originals` to the left of their reconstructions; a .npy
            the images; a .npz "images", or with originals "images", "reconstructions" and "names".
        images: uint8 [N, H, W, channels].
        originals: what `images` are reconstructions of, of the same shape.
        names: of the originals' files.

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
    """Writes codes to a .npz, with the model they are of, and the names of the images' files.

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
    """Returns whether a file is one of codes, and not one of images.

    Raises:
        UsageError: it is a .npz that cannot be read.
    """
    return path.endswith(ARRAYS) and os.path.isfile(path) and "codes" in _read_arrays(path, ())


def read_codes(path: str) -> CodeSet:
    """Returns what `write_codes` wrote.

    Raises:
        UsageError: the file cannot be read, or does not hold codes.
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
            "latents, codebooks] of at least one image"
        )
    return CodeSet(codes, str(arrays["weights"]), str(arrays["checkpoint"]))


def read_images(
    path: str, shape: tuple[int, int, int], read_image: Callable[[str], np.ndarray]
) -> ImageSet:
    """Reads an image file, the images in a folder (sorted by name), or arrays of images.

    Args:
        path: an image file, a folder, or .npy or .npz (where "images" are taken).
        shape: (H, W, channels), which arrays must have.
        read_image: reads an image file and brings it to that shape, as `ImageProblem.read_image`.

    Raises:
        UsageError: there is nothing, or something that is not an image of that shape.
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
        images = images[..., None]  # grey images, as most programs hold them
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise UsageError(
            f"{path}: images are {images.dtype} {list(images.shape)}, expected uint8 [images, "
            f"{', '.join(map(str, shape))}], what the run was trained on, and at least one"
        )
    return images


def _load(path: str) -> np.ndarray | np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except _UNREADABLE as error:
        raise UsageError(f"{path}: cannot be read as arrays ({error})") from error


def _read_arrays(path: str, wanted: Sequence[str]) -> Mapping[str, np.ndarray | None]:
    """Returns the arrays of a .npz by name: those `wanted`, and None for each other one."""
    loaded = _load(path)
    if isinstance(loaded, np.ndarray):
        raise UsageError(f"{path}: one array without a name, which is a .npy; rename the file")
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
