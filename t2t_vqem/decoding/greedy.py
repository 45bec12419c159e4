"""Greedy search and sampling, and the decoding loop of every search.

Shapes: B batch, T output positions, V vocabulary. B and T may be unknown when a graph is built.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from t2t_vqem.constants import EOS_ID, PAD_ID
from t2t_vqem.ops.shapes import Size, is_for_interpreter, sizes, smaller

# The number of output positions is a multiple of this, so that inner loops are vectorised.
POSITION_MULTIPLE = 8
# (tokens int32 [B], position int32 scalar, cache) -> (logits float32 [B, V], cache)
StepFn = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, Any]]
# (logits float32 [B, V], position int32 scalar) -> tokens int32 [B]
ChooseFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# A NamedTuple whose first field is the position, an int32 scalar, and whose last is the cache.
State = TypeVar("State")


class Decoded(NamedTuple):
    """The result of a search."""

    tokens: tf.Tensor  # int32 [B, T], with EOS unless cut by the limit, then PAD
    scores: tf.Tensor  # float32 [B], log-probability in nats; in beam search / length penalty
    codes: tf.Tensor | None = None  # int32 [B, L], the latents of the tokens, then -1
    num_repeats: tf.Tensor | None = None  # int32 [B], repeated tokens that were removed
    log_probs: tf.Tensor | None = None  # float32 [B, T], of each token, 0 for PAD
    latents: tf.Tensor | None = None  # int32 [B, T], index of each token's latent; -1 for none
    # Before tokens are removed: positions belong to the latents in order, equally many to each.
    raw_tokens: tf.Tensor | None = None  # int32 [B, T']
    raw_log_probs: tf.Tensor | None = None  # float32 [B, T']


class Scored(NamedTuple):
    """Log-probabilities of given translations, in nats."""

    scores: tf.Tensor  # float32 [B], like `Decoded.scores` of a greedy search
    log_probs: tf.Tensor  # float32 [B, T], of each token, 0 for PAD
    codes: tf.Tensor | None = None  # int32 [B, L], the latents of the translations, then -1
    code_log_probs: tf.Tensor | None = None  # float32 [B, L + 1], of each latent and of the end


class _Rows(NamedTuple):
    """The state of the search."""

    position: tf.Tensor  # int32 scalar, number of tokens so far
    token: tf.Tensor  # int32 [B], the last token
    ended: tf.Tensor  # bool [B]
    tokens: tf.Tensor  # int32 [B, T]
    log_probs: tf.Tensor  # float32 [B, T]
    cache: Any


def most_probable(logits: tf.Tensor, position: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the index of the first largest logit: [..., V] -> int32 [...]."""
    del position
    if is_for_interpreter():
        return tf.argmax(logits, -1, output_type=tf.int32)
    # Not tf.argmax: on a CPU, XLA does not vectorise it.
    size = logits.shape[-1]
    is_best = logits == tf.reduce_max(logits, -1, keepdims=True)
    return tf.reduce_min(tf.where(is_best, tf.range(size), size - 1), -1)


def log_normalizer(logits: tf.Tensor) -> tf.Tensor:
    """Logarithm of the sum of exp(logits): float32 [..., V] -> [...]."""
    if not is_for_interpreter():
        highest = tf.reduce_max(logits, -1)
        sums = tf.reduce_sum(tf.exp(logits - tf.expand_dims(highest, -1)), -1)
        return highest + tf.math.log(sums)
    highest = tf.reduce_max(logits, -1)
    return highest - _best_log_prob(logits)


def _best_log_prob(logits: tf.Tensor) -> tf.Tensor:
    """Returns the highest log-probability, in a graph for an interpreter: [..., V] -> [...]."""
    # LiteRT has vector instructions for a softmax, and none for sums of exponentials. The highest
    # probability is at least 1/V.
    return tf.math.log(tf.reduce_max(tf.nn.softmax(logits), -1))


def log_prob_of(logits: tf.Tensor, tokens: tf.Tensor, *, are_best: bool = False) -> tf.Tensor:
    """Returns log-probabilities of tokens int32 [N], from logits [N, V]: float32 [N], nats.

    Args:
      logits: float32 [N, V].
      tokens: int32 [N].
      are_best: whether they are the most probable tokens.
    """
    if are_best and is_for_interpreter():
        return _best_log_prob(logits)
    return take(logits, tokens) - log_normalizer(logits)


def take(x: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Takes one of each row: [N, V] and int32 [N] -> [N]."""
    return tf.gather(x, indices, axis=1, batch_dims=1)


def decode(
    step_fn: StepFn,
    cache: Any,
    limits: tf.Tensor,
    *,
    max_length: Size,
    first_length: Size | None = None,
    choose_fn: ChooseFn | None = None,
) -> Decoded:
    """Decodes token by token until every row has ended.

    Args:
      step_fn: computes the logits of the next token; in the first call the last token is PAD.
      cache: the state that step_fn keeps from step to step.
      limits: int32 [B], the largest number of tokens of each row, including EOS. A row that reaches
        its limit ends without EOS.
      max_length: T, at least the largest limit.
      first_length: number of positions in the given cache, as in `run_steps`; None: `max_length`.
      choose_fn: chooses the tokens; None for greedy search.

    Returns:
      Tokens and their log-probabilities.
    """
    choose_fn = choose_fn or most_probable
    (batch,) = sizes(limits)
    positions = tf.range(max_length)[None]

    def step(rows: _Rows) -> _Rows:
        logits, cache = step_fn(rows.token, rows.position, rows.cache)
        token = choose_fn(logits, rows.position)
        log_prob = log_prob_of(logits, token, are_best=choose_fn is most_probable)
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
    """Runs steps while the search is open, at most `max_length` steps.

    Args:
      step: computes the next state.
      is_open: whether the search must continue, bool scalar.
      start: the initial state.
      max_length: the largest number of steps.
      first_length: number of positions in the given cache; None: `max_length`. The cache grows only
        if the search has not ended after this many steps. This saves time, because the time of a
        step grows with the size of the cache, and limits are far above the usual length.

    Returns:
      The final state.
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

    # If sizes are unknown, a loop around the loop, so that the graph has the step only once. A
    # runtime that packs the weights again for each place of their use then has them in memory once.
    def grow_and_run(*fields):
        state = kind(*fields)
        length = smaller(state.position + first_length, max_length)
        return tuple(run(state._replace(cache=grow_cache(state.cache, length)), length))

    def more(*fields):
        return (fields[0] < max_length) & is_open(kind(*fields))

    return kind(*tf.while_loop(more, grow_and_run, tuple(start)))


def grow_cache(cache: Any, length: Size) -> Any:
    """Pads the positions of every tensor, its second-to-last axis, to `length`."""

    def grow(x: tf.Tensor) -> tf.Tensor:
        shape = sizes(x)
        shape[-2] = length - shape[-2]
        return tf.concat([x, tf.zeros(shape, x.dtype)], -2)  # unlike tf.pad, keeps known sizes

    return tf.nest.map_structure(grow, cache)
