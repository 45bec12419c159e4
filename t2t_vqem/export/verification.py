"""Compares an export with TensorFlow on the dev split, before it is reported."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import DEV, UsageError
from t2t_vqem.metrics.bleu import chrf_score, sacrebleu_score
from t2t_vqem.metrics.images import psnr
from t2t_vqem.problem import Dataset
from t2t_vqem.runtime import ImageRuntime, TextRuntime

# Scores of two implementations differ by rounding: if the scores of two hypotheses are this close,
# either may be found.
_SCORE_TOLERANCE = 1e-4
_PSNR_TOLERANCE = 0.1  # dB
_BLEU_TOLERANCE = 0.5
_TIMED_LINES = 20
_logger = logging.getLogger(__name__)


def verify_text(
    exported: TextRuntime, reference: TextRuntime, dataset: Dataset, *, exact: bool, tokenizer: str
) -> dict[str, Any]:
    """Translates the dev split with both models and compares the texts.

    Args:
        exported: the export to verify.
        reference: the same functions, computed by TensorFlow.
        dataset: the data of the run.
        exact: whether both compute in the same precision, so that texts must be equal.
        tokenizer: sacreBLEU's tokenizer.

    Returns:
        The results, as JSON.

    Raises:
        UsageError: texts differ although `exact` is set.
    """
    sources, references = dataset.sources(DEV), dataset.references(DEV)
    ours, theirs = (list(model.translate(sources)) for model in (exported, reference))
    pairs = list(zip(sources, ours, theirs, strict=True))
    different = [
        (source, our.text, their.text)
        for source, our, their in pairs
        if our.text != their.text
        and not (exact and abs(our.score - their.score) < _SCORE_TOLERANCE)
    ]
    if exact and different:
        source, our, their = different[0]
        raise UsageError(
            f"the export does not translate as the run does: {len(different)} of {len(sources)} "
            f"lines of dev differ. {source!r} gives {our!r}, expected {their!r}. Nothing was "
            "written; please report this"
        )
    scores = [
        sacrebleu_score([h.text for h in found], references, tokenizer=tokenizer)
        for found in (ours, theirs)
    ]
    lost = scores[1].value - scores[0].value
    if lost > _BLEU_TOLERANCE:
        _logger.warning("the export has %.2f BLEU less than the run on dev", lost)
    return {
        "split": DEV,
        "lines": len(sources),
        "equal_texts": sum(our.text == their.text for _, our, their in pairs),
        "bleu": {"value": scores[0].value, "signature": scores[0].signature},
        "bleu_of_run": scores[1].value,
        "cut": sum(h.cut for h in ours),
        "milliseconds_a_sentence": milliseconds_each(exported, sources),
    }


def measure_text(
    exported: TextRuntime, dataset: Dataset, split: str, tokenizer: str
) -> dict[str, Any]:
    """Translates a split with an export; returns its BLEU and chrF, as JSON."""
    texts = [h.text for h in exported.translate(dataset.sources(split))]
    references = dataset.references(split)
    bleu = sacrebleu_score(texts, references, tokenizer=tokenizer)
    chrf = chrf_score(texts, references)
    scores = {"bleu": bleu, "chrf": chrf}
    return {
        "split": split,
        "lines": len(texts),
        **{k: {"value": s.value, "signature": s.signature} for k, s in scores.items()},
    }


def milliseconds_each(model: TextRuntime, lines: Sequence[str]) -> float:
    """Returns the median time to translate a single sentence, from text to text."""
    chosen = [line for line in lines if line.strip()][:_TIMED_LINES]
    times = []
    for line in chosen:
        begin = time.perf_counter()
        list(model.translate([line]))
        times.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(times), 2)


def verify_images(
    exported: ImageRuntime, reference: ImageRuntime, dataset: Dataset, *, exact: bool
) -> dict[str, Any]:
    """Encodes and decodes the dev split with both models; see `verify_text`."""
    images = dataset.images(DEV)
    ours, theirs = (model.encode(images) for model in (exported, reference))
    ratios = [
        _mean_psnr(images, model.decode(codes))
        for model, codes in ((exported, ours), (reference, theirs))
    ]
    difference = abs(ratios[0] - ratios[1])
    if difference > _PSNR_TOLERANCE:
        message = (
            f"reconstructions of dev have {ratios[0]:.2f} dB, those of the run {ratios[1]:.2f}"
        )
        if exact:
            raise UsageError(f"the export differs from the run: {message}. Nothing was written")
        _logger.warning("%s", message)
    return {
        "split": DEV,
        "images": len(images),
        "equal_codes": float(np.mean(ours == theirs)),
        "psnr": ratios[0],
        "psnr_of_run": ratios[1],
    }


def measure_images(exported: ImageRuntime, dataset: Dataset, split: str) -> dict[str, Any]:
    """Reconstructs a split with an export; returns the mean PSNR, as JSON."""
    images = dataset.images(split)
    psnr_db = _mean_psnr(images, exported.reconstruct(images))
    return {"split": split, "images": len(images), "psnr": psnr_db}


def _mean_psnr(images: np.ndarray, others: np.ndarray) -> float:
    return float(np.mean(psnr(tf.constant(images), tf.constant(others))))
