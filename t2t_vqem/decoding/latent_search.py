"""Searching for rows of latents, one latent after the other.

Shapes: B batch, n candidates of a sentence, N = B n rows, L latents, K codes. The tokens of the
search are PAD, EOS, which no latent follows, and then the K codes.
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
    """Codes of N rows."""

    ids: tf.Tensor  # int32 [N, L], -1 after the last
    counts: tf.Tensor  # int32 [N]
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
    """Finds `options.num_candidates` rows of latents for each sentence.

    Beam search gives its best ones; otherwise they are the greedy one and samples.

    Args:
      start: takes how many rows of a sentence are searched at a time; returns the function that
        computes a step of them all, and its empty cache.
      limits: int32 [B], latents that a sentence may have.
      options: how to search.
      settings: numbers of the search.
      max_length: L, at least the largest limit.
      seed: of sampling.
      row_ids: int32 [B], what a sentence's samples depend on beside the seed.
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
