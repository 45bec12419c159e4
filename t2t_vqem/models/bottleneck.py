"""The base class of models with a discrete bottleneck."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem.config import BottleneckHParams
from t2t_vqem.layers.codebooks import CodebookState, Statistics
from t2t_vqem.layers.vector_quantizer import EStepPrior, PriorStates, VectorQuantizer
from t2t_vqem.models.base import Model
from t2t_vqem.ops.random import Rng
from t2t_vqem.quantizer_options import quantizer_options

_START_VECTORS = 16  # number of vectors per code for k-means++


class QuantizedModel(Model):
    """A model whose `quantizer` learns by EM, and whose other weights learn by gradients.

    Attributes:
      quantizer: the constructor of the model makes it with `make_quantizer`.
    """

    quantizer: VectorQuantizer

    def state_variables(self) -> CodebookState:
        """Returns the variables of the codebooks."""
        return self.quantizer.state

    def update_state(
        self, values: CodebookState, statistics: Statistics, before: CodebookState
    ) -> tuple[CodebookState, dict[str, tf.Tensor]]:
        """The M step; see `VectorQuantizer.update`."""
        return self.quantizer.update(values, statistics, before)

    def e_step_prior(
        self, rng: Rng | None, of_codes: Callable[[tf.Tensor], PriorStates]
    ) -> EStepPrior | None:
        """Returns the prior of the E step; None in inference and if `prior_weight` is 0.

        Args:
          rng: None in inference.
          of_codes: see `EStepPrior`.
        """
        hparams = self.hparams
        if rng is None or not hparams.prior_weight:
            return None
        age, steps = self.quantizer.read().age, hparams.prior_weight_steps
        share = tf.minimum(age / steps, 1.0) if steps else 1.0
        return EStepPrior(hparams.prior_weight * share, of_codes)

    def describe_statistics(self, statistics: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns metrics of the use of codes over a split: "perplexity" and "codes_used"."""
        return self.quantizer.describe(statistics)


def make_quantizer(hparams: BottleneckHParams, *, dtype: Any) -> VectorQuantizer:
    """Returns the quantiser that the hparams describe, named "quantizer"."""
    options = dataclasses.asdict(quantizer_options(hparams))
    return VectorQuantizer(**options, name="quantizer", dtype=dtype)


def start_quantizer(
    quantizer: VectorQuantizer,
    hparams: BottleneckHParams,
    batches: Iterator[dict[str, np.ndarray]],
    vectors_of: Callable[[dict[str, np.ndarray]], np.ndarray],
    *,
    seed: int,
) -> None:
    """Sets the first codes by k-means++ over vectors of the first batches, if the hparams ask it.

    Otherwise the first update takes vectors of its batch.

    Args:
      quantizer: the quantiser whose codes to set.
      hparams: its `codebook_start` and `num_codes` are used.
      batches: the first batches of the run; only the necessary number is read.
      vectors_of: returns the real vectors of a batch, float32 [n, D].
      seed: seed of k-means++.
    """
    if hparams.codebook_start != "kmeans++":
        return
    wanted = _START_VECTORS * hparams.num_codes
    vectors: list[np.ndarray] = []
    for batch in batches:
        vectors.append(vectors_of(batch))
        if sum(map(len, vectors)) >= wanted:
            break
    quantizer.start(tf.constant(np.concatenate(vectors)[:wanted]), seed=seed)
