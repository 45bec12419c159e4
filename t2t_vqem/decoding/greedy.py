"""One token at a time: the loop of every search, and the one that greedy search and sampling share.

Shapes: B batch, T output positions, V vocabulary. B and T need not be known when a graph is built.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from t2t_vqem.constants import EOS_ID, PAD_ID
from t2t_vqem.ops.shapes import Size, sizes, smaller

# Output positions are a multiple of this: it costs nothing and keeps inner loops vectorised.
POSITION_MULTIPLE = 8
# (tokens int32 [B], position int32 scalar, cache) -> (logits float32 [B, V], cache)
StepFn = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, Any]]
# (logits float32 [B, V], position int32 scalar) -> tokens int32 [B]
ChooseFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# A NamedTuple whose first field is the position, an int32 scalar, and whose last is the cache.
State = TypeVar("State")


class Decoded(NamedTuple):
    """What a search found."""

    tokens: tf.Tensor  # int32 [B, T], ends in EOS unless the limit cut it, then PAD
    scores: tf.Tensor  # float32 [B], log-probability in nats; beam search: over length penalty
    codes: tf.Tensor | None = None  # int32 [B, L], latents that they were decoded from, then -1
    num_repeats: tf.Tensor | None = None  # int32 [B], repeated tokens that were removed
    log_probs: tf.Tensor | None = None  # float32 [B, T], of each token, 0 for PAD
    latents: tf.Tensor | None = None  # int32 [B, T], index of each token's latent; -1: of none
    # Before removals, in places that belong to the latents in order, as many to each.
    raw_tokens: tf.Tensor | None = None  # int32 [B, T']
    raw_log_probs: tf.Tensor | None = None  # float32 [B, T']


class Scored(NamedTuple):
    """How probable given translations are, in nats."""

    scores: tf.Tensor  # float32 [B], as `Decoded.scores` of a greedy search
    log_probs: tf.Tensor  # float32 [B, T], of each token, 0 for PAD
    codes: tf.Tensor | None = None  # int32 [B, L], latents of the translations, then -1
    code_log_probs: tf.Tensor | None = None  # float32 [B, L + 1], of each latent and of their end


class _Rows(NamedTuple):
    """The state of the search: what each row has so far."""

    position: tf.Tensor  # int32 scalar, tokens so far
    token: tf.Tensor  # int32 [B], the last one
    ended: tf.Tensor  # bool [B]
    tokens: tf.Tensor  # int32 [B, T]
    log_probs: tf.Tensor  # float32 [B, T]
    cache: Any


def most_probable(logits: tf.Tensor, position: tf.Tensor | None = None) -> tf.Tensor:
    """Chooses as greedy search does: the first of the largest, [..., V] -> int32 [...]."""
    del position
    # Not tf.argmax: XLA on a CPU has no vector instructions for it.
    size = logits.shape[-1]
    is_best = logits == tf.reduce_max(logits, -1, keepdims=True)
    return tf.reduce_min(tf.where(is_best, tf.range(size), size - 1), -1)


def decode(
    step_fn: StepFn,
    cache: Any,
    limits: tf.Tensor,
    *,
    max_length: Size,
    first_length: Size | None = None,
    choose_fn: ChooseFn | None = None,
) -> Decoded:
    """Feeds each chosen token back until every row has ended.

    Args:
      step_fn: computes the logits of the next token; the first call gets PAD as the token before.
      cache: what step_fn keeps from step to step.
      limits: int32 [B], tokens that each row may have, EOS included; a row that reaches its limit
        ends there without EOS.
      max_length: T, at least the largest limit.
      first_length: positions of the cache given, as in `run_steps`; `max_length` where None.
      choose_fn: picks the tokens; greedy where None.

    Returns:
      Tokens and their log-probabilities.
    """
    choose_fn = choose_fn or most_probable
    (batch,) = sizes(limits)
    positions = tf.range(max_length)[None]

    def step(rows: _Rows) -> _Rows:
        logits, cache = step_fn(rows.token, rows.position, rows.cache)
        token = choose_fn(logits, rows.position)
        logits -= tf.reduce_max(logits, -1, keepdims=True)  # known from choosing
        chosen = tf.gather(logits, token, axis=1, batch_dims=1)
        log_prob = chosen - tf.math.log(tf.reduce_sum(tf.exp(logits), -1))
        log_prob = tf.where(rows.ended, 0.0, log_prob)
        token = tf.where(rows.ended, PAD_ID, token)
        here = positions == rows.position
        return _Rows(
            position=rows.position + 1,
            token=token,
            ended=rows.ended | (token == EOS_ID) | (rows.position + 1 >= limits),
            tokens=tf.where(here, token[:, None], rows.tokens),
            log_probs=tf.where(here, log_prob[:, None], rows.log_probs),
            cache=cache,
        )

    start = _Rows(
        position=tf.constant(0),
        token=tf.fill([batch], PAD_ID),
        ended=limits <= 0,
        tokens=tf.fill([batch, max_length], PAD_ID),
        log_probs=tf.zeros([batch, max_length]),
        cache=cache,
    )
    rows = run_steps(
        step,
        lambda rows: ~tf.reduce_all(rows.ended),
        start,
        max_length=max_length,
        first_length=first_length,
    )
    return Decoded(
        tokens=rows.tokens,
        scores=tf.reduce_sum(rows.log_probs, 1),
        log_probs=rows.log_probs,
    )


def run_steps(
    step: Callable[[State], State],
    is_open: Callable[[State], tf.Tensor],
    start: State,
    *,
    max_length: Size,
    first_length: Size | None = None,
) -> State:
    """Runs steps as long as the search is open, `max_length` at most.

    Args:
      step: makes the next state.
      is_open: whether there is anything left to search for, bool scalar.
      start: the first state.
      max_length: positions that there may be.
      first_length: positions of the cache given, which is `max_length` where None. Only if the
        search goes on after so many steps, the cache grows: a step costs time for every position
        that the cache has, and limits are far above the usual length.

    Returns:
      The last state.
    """
    kind = type(start)

    def run(state: State, length: Size) -> State:
        def more(*fields):
            return (fields[0] < length) & is_open(kind(*fields))

        return kind(*tf.while_loop(more, lambda *fields: tuple(step(kind(*fields))), tuple(state)))

    if first_length is None:
        return run(start, max_length)
    if isinstance(max_length, int) and isinstance(first_length, int):
        state = run(start, first_length)
        if first_length < max_length:
            state = run(state._replace(cache=grow_cache(state.cache, max_length)), max_length)
        return state

    # Where sizes are not known, a loop around the loop: the graph holds the step once, and so does
    # the memory of a runtime that lays out the weights anew for each place where they are used.
    def grow_and_run(*fields):
        state = kind(*fields)
        length = smaller(state.position + first_length, max_length)
        return tuple(run(state._replace(cache=grow_cache(state.cache, length)), length))

    def more(*fields):
        return (fields[0] < max_length) & is_open(kind(*fields))

    return kind(*tf.while_loop(more, grow_and_run, tuple(start)))


def grow_cache(cache: Any, length: Size) -> Any:
    """Pads every tensor's positions, its last axis but one, up to `length`."""

    def grow(x: tf.Tensor) -> tf.Tensor:
        padding = [[0, 0]] * len(x.shape)
        padding[-2] = [0, length - sizes(x)[-2]]
        return tf.pad(x, padding)

    return tf.nest.map_structure(grow, cache)
