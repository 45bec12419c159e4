"""What TensorBoard shows of a model of images: originals, reconstructions, samples, codes."""

from typing import NamedTuple

import numpy as np

from t2t_vqem.capabilities import ImageModel
from t2t_vqem.image_problem import ImageDataset
from t2t_vqem.inference.image_files import image_grid, side_by_side
from t2t_vqem.inference.images import ImageDecoder

_COUNTED_IMAGES = 1024  # whose codes the histogram counts
_SHOWN_PAIRS = 32
_SHOWN_SAMPLES = 64
_BATCH_SIZE = 64
_SEED = 1  # the same draws at each evaluation, so that one sees how the model changes


class Summary(NamedTuple):
    """Pictures and histograms by the names that TensorBoard shows them under."""

    images: dict[str, np.ndarray]  # uint8 [height, width, channels]
    histograms: dict[str, np.ndarray]  # float64 [buckets, 3]: left end, right end, count


class Pictures:
    """Makes pictures of one model, again and again while it trains."""

    def __init__(self, model: ImageModel, dataset: ImageDataset, *, split: str):
        """Names what to show; nothing is read or computed yet.

        Args:
            model: a built model.
            dataset: the images.
            split: whose images to show.
        """
        self._model = model
        self._dataset, self._split = dataset, split
        # Without XLA: a few batches now and then cost less than compiling would.
        self._decoder = ImageDecoder(
            model, image_shape=dataset.problem.image_shape, batch_size=_BATCH_SIZE, xla=False
        )
        self._images: np.ndarray | None = None

    def __call__(self) -> Summary:
        """Returns pictures of the model as it is now."""
        if self._images is None:
            self._images = self._dataset.images(self._split, limit=_COUNTED_IMAGES)
        codes = self._decoder.encode(self._images)
        step = max(1, len(codes) // _SHOWN_PAIRS)  # over all of the split, which may be sorted
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
    """Returns how often the codes of each codebook occur, the most frequent first.

    Their numbers mean nothing, and TensorBoard draws many buckets as few: in their own order,
    codes that are never used would disappear among their neighbours.

    Args:
        codes: int [N, L, C].
        num_codes: K.

    Returns:
        "code_usage", or "code_usage_0" and so on where there are several codebooks: float64 [K, 3],
        in which row r is (r, r + 1, how often the code of rank r occurs).
    """
    num_codebooks = codes.shape[-1]
    left = np.arange(num_codes, dtype=np.float64)
    result = {}
    for index in range(num_codebooks):
        counts = np.sort(np.bincount(codes[..., index].ravel(), minlength=num_codes))[::-1]
        name = "code_usage" if num_codebooks == 1 else f"code_usage_{index}"
        result[name] = np.stack([left, left + 1, counts], axis=1)
    return result
