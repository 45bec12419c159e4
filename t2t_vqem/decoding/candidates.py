"""Candidate translations of a sentence, and tokens that are decoded in parallel.

Shapes: B batch, n candidates of a sentence, N = B n rows, T output positions, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from t2t_vqem.constants import EOS_ID, FILL_ID, PAD_ID
from t2t_vqem.decoding.greedy import ChooseFn, log_prob_of, most_probable
from t2t_vqem.ops.blocks import in_blocks
from t2t_vqem.ops.masks import mask_padding_token
from t2t_vqem.ops.shapes import Size, is_for_interpreter, larger, reshaped, sizes

# The largest number of logits in memory, 128 MiB: those of all positions of a batch take gigabytes
# if the vocabulary is large.
_LOGITS = 2**25
LogitsFn = Callable[[tf.Tensor], tf.Tensor]  # [R, D] -> [R, V]


def first_greedy(choose_fn: ChooseFn, num_candidates: int) -> ChooseFn:
    """Decodes the first candidate of each sentence greedily; `choose_fn` chooses for the others.

    Rows b n ... (b + 1) n - 1 belong to sentence b.
    """

    def choose(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        is_first = tf.range(sizes(logits)[0]) % num_candidates == 0
        return tf.where(is_first, most_probable(logits, position), choose_fn(logits, position))

    return choose


def best_candidates(scores: tf.Tensor, num_candidates: int, num_best: int = 1) -> tf.Tensor:
    """Finds each sentence's rows of the highest scores: float32 [N] -> int32 [B * num_best]."""
    best = tf.math.top_k(tf.reshape(scores, [-1, num_candidates]), num_best).indices
    best += num_candidates * tf.range(sizes(scores)[0] // num_candidates)[:, None]
    return tf.reshape(best, [-1])


def choose_tokens(
    logits_fn: LogitsFn, x: tf.Tensor, vocab_size: int, *, longest: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the most probable token of each position, except PAD.

    Args:
      logits_fn: computes logits.
      x: [N, T, D], the input of `logits_fn`.
      vocab_size: V.
      longest: the largest T, for graphs in which it is unknown.

    Returns:
      int32 [N, T], and their log-probabilities, float32 [N, T], nats.
    """

    def choose(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = mask_padding_token(logits_fn(x))
        tokens = most_probable(logits)
        return tokens, log_prob_of(logits, tokens, are_best=True)

    rows = [tf.reshape(x, [-1, x.shape[-1]])]
    most = x.shape[0] * longest if x.shape[0] and longest else None
    outputs = [(tf.int32, []), (tf.float32, [])]
    found = in_blocks(choose, rows, outputs, vocab_size, block=_LOGITS, most_rows=most)
    tokens, log_probs = (reshaped(y, sizes(x)[:-1]) for y in found)
    return tokens, log_probs


def log_probs_of(
    tokens: tf.Tensor, logits_fn: LogitsFn, x: tf.Tensor, vocab_size: int
) -> tf.Tensor:
    """Returns the log-probabilities of tokens int32 [N, T]: float32 [N, T], nats.

    The other arguments are those of `choose_tokens`.
    """

    def look_up(x: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor]:
        logits = tf.cast(logits_fn(x), tf.float32)
        return (log_prob_of(logits, tokens),)

    rows = [tf.reshape(x, [-1, x.shape[-1]]), tf.reshape(tokens, [-1])]
    (found,) = in_blocks(look_up, rows, [(tf.float32, [])], vocab_size, block=_LOGITS)
    return tf.reshape(found, sizes(tokens))


class Placed(NamedTuple):
    """Tokens with their log-probabilities and latents; PAD, 0 and -1 after the end of a row."""

    tokens: tf.Tensor  # int32 [N, T]
    log_probs: tf.Tensor  # float32 [N, T]
    latents: tf.Tensor  # int32 [N, T], index of the latent that a token belongs to; -1 for none

    def fit(self, length: Size) -> "Placed":
        """Cuts or pads the rows to `length` tokens.

        In a graph for an interpreter, removes the tokens beyond it instead: changing sizes takes
        longer.
        """
        if is_for_interpreter():
            inside = _positions(self.tokens) < length
            return Placed(
                *(tf.where(inside, x, empty) for x, empty in zip(self, _EMPTY, strict=True))
            )
        missing = larger(length - sizes(self.tokens)[1], 0)
        return Placed(
            *(
                tf.pad(x, [[0, 0], [0, missing]], constant_values=empty)[:, :length]
                for x, empty in zip(self, _EMPTY, strict=True)
            )
        )


_EMPTY = Placed(PAD_ID, 0.0, -1)


def _positions(x: tf.Tensor) -> tf.Tensor:
    """Returns the positions of x [N, T]: int32 [1, T]."""
    return tf.range(sizes(x)[1])[None]


def end_at_eos(
    tokens: tf.Tensor, log_probs: tf.Tensor, counts: tf.Tensor, tokens_per_latent: int
) -> Placed:
    """Ends rows at their first EOS; appends an EOS to rows without one.

    A row without latents stays empty. An appended EOS belongs to no latent and has probability 1.

    Args:
      tokens: int32 [N, T].
      log_probs: float32 [N, T].
      counts: int32 [N], number of latents in each row.
      tokens_per_latent: number of tokens that each latent stands for.

    Returns:
      Rows of T + 1 tokens.
    """
    lengths = counts[:, None] * tokens_per_latent
    tokens = tf.pad(tokens, [[0, 0], [0, 1]])
    positions = _positions(tokens)
    inside = positions < lengths
    tokens = tf.where(inside, tokens, EOS_ID)
    tokens = tf.where(lengths > 0, tokens, PAD_ID)
    before = tf.cumsum(tf.cast(tokens == EOS_ID, tf.int32), axis=1, exclusive=True)
    tokens = tf.where(before > 0, PAD_ID, tokens)
    inside &= tokens != PAD_ID
    log_probs = tf.where(inside, tf.pad(log_probs, [[0, 0], [0, 1]]), 0.0)
    return Placed(tokens, log_probs, tf.where(inside, positions // tokens_per_latent, -1))


def remove_repeats(placed: Placed) -> tuple[Placed, tf.Tensor]:
    """Removes tokens that repeat the token before them; later tokens move up.

    Positions that are decoded independently of each other tend to repeat a word (Lee et al. 2018,
    section 3.3).

    Returns:
      The remaining tokens, and the number of removed ones, int32 [N].
    """
    tokens = placed.tokens
    before = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
    real = tokens != PAD_ID
    kept = real & (tokens != before)
    return _move_up(placed, kept), tf.reduce_sum(tf.cast(real & ~kept, tf.int32), -1)


def remove_fill(placed: Placed) -> Placed:
    """Removes FILL; later tokens move up."""
    return _move_up(placed, (placed.tokens != PAD_ID) & (placed.tokens != FILL_ID))


def without_fill(tokens: tf.Tensor) -> tf.Tensor:
    """Removes FILL from tokens int32 [N, T]; later tokens move up, PAD follows."""
    nothing = tf.zeros_like(tokens)
    return remove_fill(Placed(tokens, tf.cast(nothing, tf.float32), nothing)).tokens


def _move_up(placed: Placed, kept: tf.Tensor) -> Placed:
    """Moves the tokens to keep, bool [N, T], to the beginning of their rows."""
    place = tf.cumsum(tf.cast(kept, tf.int32), axis=1) - 1
    positions = tf.range(sizes(place)[1])[None, :, None]
    # At most one kept token goes to each position, so a sum selects it. A scatter would be slow.
    goes_to = (tf.expand_dims(place, 1) == positions) & tf.expand_dims(kept, 1)

    def move(x: tf.Tensor, empty: int) -> tf.Tensor:
        return tf.reduce_sum(tf.where(goes_to, tf.expand_dims(x - empty, 1), 0), -1) + empty

    return Placed(*(move(x, empty) for x, empty in zip(placed, _EMPTY, strict=True)))
