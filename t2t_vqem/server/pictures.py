"""The image files in requests and answers."""

from __future__ import annotations

import base64
import io
import math

import numpy as np

from t2t_vqem.data.image_folder import UnreadableImageError, read_image
from t2t_vqem.extras import import_extra
from t2t_vqem.server.limits import RequestError

# The formats for which Pillow calls no other program and reads no other file.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MOST_PSNR = 100.0  # dB, the value for an exact copy


class _Upload(io.BytesIO):
    """A file in memory, with a name for messages."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


def read_picture(
    content: bytes, name: str, shape: tuple[int, int, int], most_pixels: int
) -> np.ndarray:
    """Reads an image file and converts the image to a shape, like the training data.

    Args:
        content: content of the file.
        name: name of the field that holds the file.
        shape: height, width and channels.
        most_pixels: limit of width times height. Of a larger image only the header is read, because
            a small file can hold a huge image.

    Returns:
        uint8 [height, width, channels].

    Raises:
        RequestError: 422, the file cannot be read, or the image is too large.
    """
    pil = import_extra("PIL.Image", "server")
    try:
        with pil.open(io.BytesIO(content), formats=_FORMATS) as head:
            width, height = head.size
    except pil.DecompressionBombError as error:
        raise RequestError(
            422, f"{name} has too many pixels, expected at most {most_pixels}."
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many types
        known = ", ".join(_FORMATS)
        raise RequestError(
            422, f"{name} is not an image file. Expected one of: {known}."
        ) from error
    if width * height > most_pixels:
        raise RequestError(
            422, f"{name} has {width} x {height} pixels, expected at most {most_pixels}."
        )
    try:
        return read_image(_Upload(content, name), shape)
    except UnreadableImageError as error:
        raise RequestError(422, f"{error}"[:300]) from error


def encode_png(image: np.ndarray) -> str:
    """Returns an image, uint8 [height, width, 1 or 3], as a PNG file in base64."""
    pil = import_extra("PIL.Image", "server")
    file = io.BytesIO()
    pil.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def psnr(original: np.ndarray, image: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio of an image, uint8, in dB."""
    error = np.mean(np.square(original.astype(np.float64) - image))
    return min(_MOST_PSNR, 10 * math.log10(255**2 / error)) if error else _MOST_PSNR
