"""Sampling, encoding, decoding and measuring images with a trained model.

Shapes: N images, B batch, H height, W width, L latents of an image, C codebooks.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem.capabilities import ImageModel
from t2t_vqem.constants import UsageError
from t2t_vqem.models.base import LossOutput
from t2t_vqem.output_dir import named_weights

DEFAULT_BATCH_SIZE = 64
_Progress = Callable[[int], None] | None


class ImageDecoder:
    """Runs a model of images on any number of images, in batches of a fixed size.

    Each function of the model is compiled at its first call. Compiled functions read the model's
    variables when they run, so a decoder can be used while its model trains.

    `reconstruct` is `decode` of `encode`, with the same compiled functions: stored codes give
    bit-identical images.
    """

    def __init__(
        self,
        model: ImageModel,
        *,
        image_shape: tuple[int, int, int],
        batch_size: int = DEFAULT_BATCH_SIZE,
        search_passes: int = 0,
        xla: bool = True,
    ):
        """Makes a decoder, without compiling.

        Args:
          model: a built model.
          image_shape: (H, W, channels) of its images.
          batch_size: B, number of images in a batch; the last batch is padded.
          search_passes: number of passes of the search, in `encode`, for codes that reconstruct the
            images more accurately.
          xla: whether to compile with XLA: compilation takes seconds, steps are then faster.
        """
        self._model = model
        self._image_shape = tuple(image_shape)
        self._batch_size = batch_size
        self._search_passes = search_passes
        self._xla = xla
        self._samplers: dict[tuple[float, int], Callable[..., tf.Tensor]] = {}

    def encode(self, images: np.ndarray, *, progress: _Progress = None) -> np.ndarray:
        """Returns the codes of images: uint8 [N, H, W, channels] -> int32 [N, L, C].

        Args:
          images: at least one image.
          progress: called with the number of images that were just finished.
        """
        return self._in_batches(self._encode, images, progress)

    def decode(self, codes: np.ndarray, *, progress: _Progress = None) -> np.ndarray:
        """Returns the images of codes: int32 [N, L, C] -> uint8 [N, H, W, channels].

        Args:
          codes: codes of at least one image.
          progress: called with the number of images that were just finished.

        Raises:
          UsageError: the shape is wrong, or an id is out of range.
        """
        hparams = self._model.hparams
        wanted = self.code_shape
        if codes.shape[1:] != wanted:
            raise UsageError(
                f"codes have the shape {list(codes.shape)}, expected [images, latents, codebooks] "
                f"= [images, {', '.join(map(str, wanted))}]"
            )
        if codes.min() < 0 or codes.max() >= hparams.num_codes:
            raise UsageError(
                f"codes are from {codes.min()} to {codes.max()}, expected 0 to "
                f"{hparams.num_codes - 1}: the model has {hparams.num_codes} codes"
            )
        return self._in_batches(self._decode, codes.astype(np.int32), progress)

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
        progress: _Progress = None,
    ) -> np.ndarray:
        """Draws the codes of new images from the model's prior.

        Args:
          num_images: N. Image i depends on the seed and on i, not on N.
          temperature: above 0. 1 draws from the prior itself, lower values give less diversity.
          top_k: draw only among the k most probable codes; 0: all.
          seed: seed of the draws.
          progress: called with the number of images that were just finished.

        Returns:
          Codes int32 [N, L, C], for `decode`.

        Raises:
          UsageError: the temperature is not above 0.
        """
        if temperature <= 0:
            raise UsageError(
                f"the sampling temperature is {temperature}, expected a number above 0: with 0 all "
                "samples would be the same image"
            )
        key = (temperature, top_k)
        if key not in self._samplers:
            self._samplers[key] = self._make_sampler(temperature, top_k)
        draw = functools.partial(self._samplers[key], tf.constant(seed, tf.int32))
        return self._in_batches(draw, np.arange(num_images, dtype=np.int32), progress)

    def measure(
        self, images: np.ndarray, codes: np.ndarray, *, progress: _Progress = None
    ) -> dict[str, float]:
        """Returns the model's metrics on images, the same as in evaluations during training.

        Args:
          images: uint8 [N, H, W, channels], at least one.
          codes: int32 [N, L, C], the codes that `encode` returns for these images.
          progress: called with the number of images that were just finished.
        """
        sums: dict[str, np.ndarray] = {}
        statistics = None
        for start in range(0, len(images), self._batch_size):
            rows = images[start : start + self._batch_size]
            mask = np.arange(self._batch_size) < len(rows)
            its_codes = codes[start : start + self._batch_size]
            output = self._loss(self._filled(rows), mask, self._filled(its_codes))
            for name, pair in output.metrics.items():
                sums[name] = sums.get(name, 0.0) + np.array(pair, np.float64)
            new = output.statistics
            statistics = new if start == 0 else tf.nest.map_structure(tf.add, statistics, new)
            if progress:
                progress(len(rows))
        described = self._model.describe_statistics(statistics)
        return {
            **{name: float(pair[0] / pair[1]) for name, pair in sums.items()},
            **{name: float(value) for name, value in described.items()},
        }

    def close(self) -> None:
        """Frees the model and the compiled functions; the decoder cannot be used afterwards."""
        self.__dict__.clear()

    @property
    def code_shape(self) -> tuple[int, int]:
        """Shape of the codes of an image, (L, C)."""
        return tuple(self._encode.get_concrete_function().structured_outputs.shape[1:])

    @functools.cached_property
    def _encode(self) -> Callable[[np.ndarray], tf.Tensor]:
        signature = [tf.TensorSpec([self._batch_size, *self._image_shape], tf.uint8)]
        encode = functools.partial(self._model.encode_to_codes, search_passes=self._search_passes)
        return self._compiled(encode, signature)

    @functools.cached_property
    def _decode(self) -> Callable[[np.ndarray], tf.Tensor]:
        signature = [tf.TensorSpec([self._batch_size, *self.code_shape], tf.int32)]
        return self._compiled(self._model.decode_codes, signature)

    @functools.cached_property
    def _loss(self) -> Callable[..., LossOutput]:
        signature = [
            tf.TensorSpec([self._batch_size, *self._image_shape], tf.uint8),
            tf.TensorSpec([self._batch_size], tf.bool),
            tf.TensorSpec([self._batch_size, *self.code_shape], tf.int32),
        ]

        def loss(images: tf.Tensor, mask: tf.Tensor, codes: tf.Tensor) -> LossOutput:
            return self._model.loss({"images": images, "mask": mask, "codes": codes})

        return self._compiled(loss, signature)

    def _make_sampler(self, temperature: float, top_k: int) -> Callable[..., tf.Tensor]:
        def sample(seed: tf.Tensor, row_ids: tf.Tensor) -> tf.Tensor:
            return self._model.sample_codes(
                self._batch_size,
                temperature=temperature,
                top_k=top_k,
                seed=seed,
                row_ids=row_ids,
            )

        signature = [tf.TensorSpec([], tf.int32), tf.TensorSpec([self._batch_size], tf.int32)]
        return self._compiled(sample, signature)

    def _compiled(self, function: Callable, signature: list[tf.TensorSpec]) -> Callable:
        return tf.function(
            function, input_signature=signature, jit_compile=self._xla, autograph=False
        )

    def _in_batches(
        self, function: Callable[[np.ndarray], tf.Tensor], rows: np.ndarray, progress: _Progress
    ) -> np.ndarray:
        """Applies a function of a batch to any number of rows."""
        results = []
        for start in range(0, len(rows), self._batch_size):
            part = rows[start : start + self._batch_size]
            results.append(function(self._filled(part)).numpy()[: len(part)])
            if progress:
                progress(len(part))
        return np.concatenate(results)

    def _filled(self, rows: np.ndarray) -> np.ndarray:
        """Pads a batch with rows of zeros."""
        padding = [(0, self._batch_size - len(rows))] + [(0, 0)] * (rows.ndim - 1)
        return np.pad(rows, padding)


def weights_digest(model: Any) -> str:
    """Returns a hash of the names and values of all variables of a built model."""
    digest = hashlib.sha256()
    for path, variable in sorted(named_weights(model).items()):
        value = variable.numpy()
        digest.update(f"{path} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
