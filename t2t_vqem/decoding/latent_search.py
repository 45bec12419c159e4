"""Autoregressive search for sequences of latents.

Shapes: B batch, n candidates of a sentence, N = B n rows, L latents, K codes. The tokens of the
search are PAD, EOS, which ends a sequence, and the K codes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from t2t_vqem.constants import FIRST_CODE
from t2t_vqem.decoding import candidates
from t2t_vqem.decoding.beam import beam_search, length_penalty
from t2t_vqem.decoding.greedy import StepFn, decode
from t2t_vqem.decoding.options import DecodeOptions, SearchSettings
from t2t_vqem.decoding.sampling import sampler
from t2t_vqem.ops.masks import num_tokens
from t2t_vqem.ops.shapes import Size, sizes


class Latents(NamedTuple):
    """The latents of N rows."""

    ids: tf.Tensor  # int32 [N, L], codes, -1 after the last one
    counts: tf.Tensor  # int32 [N], number of latents
    scores: tf.Tensor  # float32 [N], log-probability in nats


def search_latents(
    start: Callable[[int], tuple[StepFn, Any]],
    limits: tf.Tensor,
    options: DecodeOptions,
    settings: SearchSettings,
    *,
    max_length: Size,
    seed: int | tf.Tensor,
    row_ids: tf.Tensor,
) -> Latents:
    """Finds `options.num_candidates` sequences of latents for each sentence.

    With beam search they are its best hypotheses, otherwise the greedy sequence and samples.

    Args:
      start: takes the number of rows of a sentence that are searched at the same time; returns the
        function that computes one step of all rows, and its empty cache.
      limits: int32 [B], the largest number of latents of each sentence.
      options: the kind of search.
      settings: numeric settings of the search.
      max_length: L, at least the largest limit.
      seed: seed of sampling.
      row_ids: int32 [B]; the samples of a sentence depend only on its id and the seed.
    """
    num, beam_size = options.num_candidates, options.beam_size
    if beam_size > 1:
        step, cache = start(beam_size)
        alpha = settings.alpha
        found = beam_search(
            step, cache, limits, beam_size, alpha, max_length=max_length, num_best=num
        )
        found = found._replace(
            scores=found.scores * length_penalty(num_tokens(found.tokens), alpha)
        )
    else:
        choose = None
        if settings.samples:
            rows = tf.repeat(row_ids * num, num) + tf.tile(tf.range(num), sizes(row_ids))
            choose = sampler(settings.temperature, settings.top_k, seed=seed, row_ids=rows)
            if num > 1:
                choose = candidates.first_greedy(choose, num)
        step, cache = start(num)
        limits = tf.repeat(limits, num)
        found = decode(step, cache, limits, max_length=max_length, choose_fn=choose)
    is_code = found.tokens >= FIRST_CODE
    ids = tf.where(is_code, found.tokens - FIRST_CODE, -1)
    return Latents(ids, tf.reduce_sum(tf.cast(is_code, tf.int32), 1), found.scores)
