"""Scoring given translations with a trained run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem import capabilities
from t2t_vqem.capabilities import LatentTextModel, PairScoringModel
from t2t_vqem.constants import MAX_EXTRA_LENGTH, UsageError
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.runtime.manifest import TEXT, Manifest
from t2t_vqem.runtime.text import SCORE, TextRuntime

_CONCURRENCY = 2  # so that text is prepared while the device works
_logger = logging.getLogger(__name__)


def load_scorer(
    run: OutputDir, checkpoint: str | None, *, batch_tokens: int | None = None
) -> TextRuntime:
    """Returns a `TextRuntime` whose `score` scores pairs with a trained run.

    Args:
      run: the run.
      checkpoint: as in `OutputDir.find_checkpoint`.
      batch_tokens: number of tokens in a batch, including padding; None: the default.

    Raises:
      UsageError: the run cannot score translations, or its checkpoint is unusable.
    """
    hparams = run.hparams()
    if not capabilities.offers(hparams.model, PairScoringModel):
        raise UsageError(
            f"the run in {run.path} is of the model {hparams.model!r}, which cannot score given "
            f"translations. Expected one of: {capabilities.models_that_offer(PairScoringModel)}"
        )
    model = run.build_model()
    _logger.info("weights of %s", run.restore_for_inference(model, checkpoint))
    return make_scorer(run, model, batch_tokens=batch_tokens)


def make_scorer(run: OutputDir, model: Any, *, batch_tokens: int | None = None) -> TextRuntime:
    """Returns a `TextRuntime` whose `score` scores pairs with the model of a run, restored."""
    hparams = run.hparams()
    latent = capabilities.offers(hparams.model, LatentTextModel)
    manifest = Manifest(
        kind=TEXT,
        engine="tensorflow",
        model=model.name,
        files={},
        max_length=hparams.max_length,
        max_extra_length=MAX_EXTRA_LENGTH,
        group_size=hparams.group_size,
        tokens_per_latent=model.ratio if latent else 0,
        num_codes=hparams.num_codes if latent else 0,
    )
    settings = {"batch_tokens": batch_tokens} if batch_tokens else {}
    return TextRuntime(manifest, run.vocabulary(), _ScoringModel(model), **settings)


class _ScoringModel:
    """The `Backend` of a runtime that only scores."""

    concurrency = _CONCURRENCY

    def __init__(self, model: Any):
        # Not compiled by XLA, which would compile each shape; this is a single pass over each pair.
        ids = tf.TensorSpec([None, None], tf.int32)
        self._score = tf.function(model.score_pairs, input_signature=[ids, ids], autograph=False)

    def inputs(self, signature: str) -> Sequence[str] | None:
        return ("inputs", "targets") if signature == SCORE else None

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        del signature
        scored = self._score(*(tf.constant(inputs[name]) for name in ("inputs", "targets")))
        return {k: v.numpy() for k, v in scored._asdict().items() if v is not None}
