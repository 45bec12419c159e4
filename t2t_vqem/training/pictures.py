"""Images of an image model for TensorBoard: originals, reconstructions, samples, code usage."""

from typing import NamedTuple

import numpy as np

from t2t_vqem.capabilities import ImageModel
from t2t_vqem.image_problem import ImageDataset
from t2t_vqem.inference.image_files import image_grid, side_by_side
from t2t_vqem.inference.images import ImageDecoder

_COUNTED_IMAGES = 1024  # number of images whose codes are counted in the histogram
_SHOWN_PAIRS = 32
_SHOWN_SAMPLES = 64
_BATCH_SIZE = 64
_SEED = 1  # the same draws in each evaluation, so that changes of the model are visible


class Summary(NamedTuple):
    """Images and histograms by their names in TensorBoard."""

    images: dict[str, np.ndarray]  # uint8 [height, width, channels]
    histograms: dict[str, np.ndarray]  # float64 [buckets, 3]: left edge, right edge, count


class Pictures:
    """Makes images of a model repeatedly during training."""

    def __init__(self, model: ImageModel, dataset: ImageDataset, *, split: str):
        """Stores the arguments, without reading or computing anything.

        Args:
            model: a built model.
            dataset: the images.
            split: the split to show images of.
        """
        self._model = model
        self._dataset, self._split = dataset, split
        # Without XLA: a few batches per evaluation take less time than compilation.
        self._decoder = ImageDecoder(
            model, image_shape=dataset.problem.image_shape, batch_size=_BATCH_SIZE, xla=False
        )
        self._images: np.ndarray | None = None

    def __call__(self) -> Summary:
        """Returns images of the model with its current weights."""
        if self._images is None:
            self._images = self._dataset.images(self._split, limit=_COUNTED_IMAGES)
        codes = self._decoder.encode(self._images)
        step = max(1, len(codes) // _SHOWN_PAIRS)  # spread over the split, which may be sorted
        shown = slice(None, step * _SHOWN_PAIRS, step)
        samples = self._decoder.decode(self._decoder.sample(_SHOWN_SAMPLES, seed=_SEED))
        return Summary(
            images={
                "reconstructions": side_by_side(
                    self._images[shown], self._decoder.decode(codes[shown])
                ),
                "samples": image_grid(samples),
            },
            histograms=code_usage(codes, self._model.hparams.num_codes),
        )


def code_usage(codes: np.ndarray, num_codes: int) -> dict[str, np.ndarray]:
    """Returns the frequencies of the codes of each codebook, the most frequent code first.

    The ids of codes have no meaning, and TensorBoard merges buckets if there are many. In the order
    of ids, unused codes would be merged with used ones and disappear.

    Args:
        codes: int [N, L, C].
        num_codes: K.

    Returns:
        "code_usage", or "code_usage_0" and so on for several codebooks: float64 [K, 3]. Row r is
        (r, r + 1, frequency of the code of rank r).
    """
    num_codebooks = codes.shape[-1]
    left = np.arange(num_codes, dtype=np.float64)
    result = {}
    for index in range(num_codebooks):
        counts = np.sort(np.bincount(codes[..., index].ravel(), minlength=num_codes))[::-1]
        name = "code_usage" if num_codebooks == 1 else f"code_usage_{index}"
        result[name] = np.stack([left, left + 1, counts], axis=1)
    return result
