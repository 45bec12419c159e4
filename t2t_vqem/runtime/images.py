"""Encoding, decoding and sampling of images with an exported model.

Shapes: N images, H height, W width, L latents of an image, C codebooks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from t2t_vqem.constants import UsageError
from t2t_vqem.runtime.interpreters import Backend
from t2t_vqem.runtime.manifest import Manifest

ENCODE, DECODE, SAMPLE = "encode", "decode", "sample"
_BATCH_IMAGES = 16
_Progress = Callable[[int], None] | None


class ImageRuntime:
    """Runs a model of images on any number of images. Several threads can use it.

    Attributes:
        manifest: the manifest of the export.
    """

    def __init__(self, manifest: Manifest, backend: Backend):
        """Stores its arguments; `loading.load` makes them from a folder."""
        self.manifest = manifest
        self._backend = backend
        self._pool = ThreadPoolExecutor(backend.concurrency)

    def close(self) -> None:
        """Frees the threads and the model; the runtime cannot be used afterwards."""
        self._pool.shutdown()
        del self._backend

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, channels)."""
        return tuple(self.manifest.image_shape)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(L, C)."""
        return tuple(self.manifest.code_shape)

    def encode(self, images: np.ndarray, *, progress: _Progress = None) -> np.ndarray:
        """Returns the codes of images: uint8 [N, H, W, channels] -> int32 [N, L, C].

        Args:
            images: at least one image.
            progress: called with the number of images that were just finished.

        Raises:
            UsageError: the shape or type is wrong.
        """
        if images.shape[1:] != self.image_shape or images.dtype != np.uint8 or not len(images):
            raise UsageError(
                f"images are {images.dtype} {list(images.shape)}, expected uint8 [images, "
                f"{', '.join(map(str, self.image_shape))}], at least one"
            )
        return self._in_batches(lambda rows: self._call(ENCODE, images=rows), images, progress)

    def decode(self, codes: np.ndarray, *, progress: _Progress = None) -> np.ndarray:
        """Returns the images of codes: int32 [N, L, C] -> uint8 [N, H, W, channels].

        Args:
            codes: codes of at least one image.
            progress: called with the number of images that were just finished.

        Raises:
            UsageError: the shape is wrong, or an id is out of range.
        """
        num_codes = self.manifest.num_codes
        if codes.shape[1:] != self.code_shape or not len(codes):
            raise UsageError(
                f"codes have the shape {list(codes.shape)}, expected [images, latents, codebooks] "
                f"= [images, {', '.join(map(str, self.code_shape))}], at least one image"
            )
        if codes.min() < 0 or codes.max() >= num_codes:
            raise UsageError(
                f"codes are from {codes.min()} to {codes.max()}, expected 0 to {num_codes - 1}: "
                f"the model has {num_codes} codes"
            )
        codes = codes.astype(np.int32)
        return self._in_batches(lambda rows: self._call(DECODE, codes=rows), codes, progress)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Encodes images and decodes them again; uint8 [N, H, W, channels]."""
        return self.decode(self.encode(images))

    def sample(
        self,
        num_images: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
        first_index: int = 0,
        progress: _Progress = None,
    ) -> np.ndarray:
        """Draws the codes of new images from the model's prior.

        Args:
            num_images: N. Image i depends on the seed and on i, not on N.
            temperature: above 0. 1 draws from the prior itself, lower values give less diversity.
            top_k: draw only among the k most probable codes; 0: all.
            seed: seed of the draws.
            first_index: number of the first image.
            progress: called with the number of images that were just finished.

        Returns:
            Codes int32 [N, L, C], for `decode`.

        Raises:
            UsageError: a number is out of range.
        """
        for name, value, fits in (
            ("num_images", num_images, num_images >= 1),
            ("temperature", temperature, 0 < temperature < 1e9),
            ("top_k", top_k, 0 <= top_k < 2**31),
        ):
            if not fits:
                raise UsageError(f"{name} is {value}, expected a positive number (top_k: or 0)")
        settings = {
            "temperature": np.array(temperature, np.float32),
            "top_k": np.array(top_k, np.int32),
            "seed": np.array(seed & 0x7FFFFFFF, np.int32),
        }
        rows = np.arange(first_index, first_index + num_images, dtype=np.int64).astype(np.int32)
        return self._in_batches(
            lambda rows: self._call(SAMPLE, row_ids=rows, **settings), rows, progress
        )

    def _call(self, signature: str, **inputs: np.ndarray) -> np.ndarray:
        (output,) = self._backend.call(signature, inputs).values()
        return output

    def _in_batches(
        self, function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, progress: _Progress
    ) -> np.ndarray:
        """Applies a function of a batch to any number of rows, several batches at a time."""
        size = min(_BATCH_IMAGES, -(-len(rows) // self._backend.concurrency))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        results = []
        for part, result in zip(parts, self._pool.map(function, parts), strict=True):
            results.append(result)
            if progress:
                progress(len(part))
        return np.concatenate(results)
