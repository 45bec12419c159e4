"""Several candidates of a sentence, and tokens that came all at once.

Shapes: B batch, n candidates of a sentence, N = B n rows, T output positions, V vocabulary.
"""

from collections.abc import Callable

import tensorflow as tf

from t2t_vqem.constants import EOS_ID, FILL_ID, PAD_ID
from t2t_vqem.decoding.greedy import ChooseFn, most_probable
from t2t_vqem.ops.blocks import in_blocks
from t2t_vqem.ops.masks import mask_padding_token

# Logits that there may be at a time, 128 MiB of them: all positions of a batch of a large
# vocabulary have gigabytes.
_LOGITS = 2**25
LogitsFn = Callable[[tf.Tensor], tf.Tensor]  # [R, D] -> [R, V]


def first_greedy(choose_fn: ChooseFn, num_candidates: int) -> ChooseFn:
    """Makes the first of each sentence's candidates the greedy one; `choose_fn` draws the others.

    Rows b n ... (b + 1) n - 1 belong to sentence b.
    """

    def choose(logits: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        is_first = tf.range(logits.shape[0]) % num_candidates == 0
        return tf.where(is_first, most_probable(logits, position), choose_fn(logits, position))

    return choose


def best_candidate(scores: tf.Tensor, num_candidates: int) -> tf.Tensor:
    """Finds each sentence's row of the highest score: float32 [N] -> int32 [B]."""
    best = tf.argmax(tf.reshape(scores, [-1, num_candidates]), -1, output_type=tf.int32)
    return best + num_candidates * tf.range(scores.shape[0] // num_candidates)


def choose_tokens(
    logits_fn: LogitsFn, x: tf.Tensor, vocab_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the most probable token of each position, which is never PAD.

    Args:
      logits_fn: makes logits.
      x: what of, [N, T, D].
      vocab_size: V.

    Returns:
      int32 [N, T], and their log-probabilities, float32 [N, T], nats.
    """

    def choose(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = mask_padding_token(logits_fn(x))
        tokens = most_probable(logits)
        logits -= tf.reduce_max(logits, -1, keepdims=True)  # known from choosing
        return tokens, -tf.math.log(tf.reduce_sum(tf.exp(logits), -1))

    rows = [tf.reshape(x, [-1, x.shape[-1]])]
    found = in_blocks(choose, rows, [(tf.int32, []), (tf.float32, [])], vocab_size, block=_LOGITS)
    tokens, log_probs = (tf.reshape(y, x.shape[:-1]) for y in found)
    return tokens, log_probs


def log_probs_of(
    tokens: tf.Tensor, logits_fn: LogitsFn, x: tf.Tensor, vocab_size: int
) -> tf.Tensor:
    """Returns the log-probabilities of tokens int32 [N, T]: float32 [N, T], nats.

    The other arguments are those of `choose_tokens`.
    """

    def look_up(x: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor]:
        log_probs = tf.nn.log_softmax(tf.cast(logits_fn(x), tf.float32))
        return (tf.gather(log_probs, tokens, batch_dims=1),)

    rows = [tf.reshape(x, [-1, x.shape[-1]]), tf.reshape(tokens, [-1])]
    (found,) = in_blocks(look_up, rows, [(tf.float32, [])], vocab_size, block=_LOGITS)
    return tf.reshape(found, tokens.shape)


def end_at_eos(tokens: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Ends rows at their first EOS, or with one after `lengths` tokens where there is none before.

    A row of length 0 stays empty.

    Args:
      tokens: int32 [N, T].
      lengths: int32 [N], at most T.

    Returns:
      int32 [N, T + 1], PAD after the EOS.
    """
    tokens = tf.pad(tokens, [[0, 0], [0, 1]])
    positions = tf.range(tokens.shape[1])[None]
    tokens = tf.where(positions >= lengths[:, None], EOS_ID, tokens)
    tokens = tf.where(lengths[:, None] > 0, tokens, PAD_ID)
    is_eos = tf.cast(tokens == EOS_ID, tf.int32)
    before = tf.cumsum(is_eos, axis=1, exclusive=True)
    return tf.where(before > 0, PAD_ID, tokens)


def remove_repeats(tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Removes tokens that repeat the one before them; what follows moves up.

    Positions that are decoded independently of each other tend to say a word twice (Lee et al.
    2018, section 3.3).

    Args:
      tokens: int32 [N, T], PAD at the end.

    Returns:
      int32 [N, T], and how many were removed, int32 [N].
    """
    before = tf.pad(tokens[:, :-1], [[0, 0], [1, 0]], constant_values=PAD_ID)
    real = tokens != PAD_ID
    kept = real & (tokens != before)
    return _move_up(tokens, kept), tf.reduce_sum(tf.cast(real & ~kept, tf.int32), -1)


def remove_fill(tokens: tf.Tensor) -> tf.Tensor:
    """Removes FILL from int32 [N, T], PAD at the end; what follows moves up."""
    return _move_up(tokens, (tokens != PAD_ID) & (tokens != FILL_ID))


def _move_up(tokens: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Moves the tokens that are kept, bool [N, T], to the beginning of their rows."""
    place = tf.cumsum(tf.cast(kept, tf.int32), axis=1) - 1
    # Of the tokens that would go to a place, one is kept: a sum finds it, where a scatter is slow.
    goes_to = (place[:, None, :] == tf.range(tokens.shape[1])[None, :, None]) & kept[:, None, :]
    return tf.reduce_sum(tf.where(goes_to, tokens[:, None, :], PAD_ID), -1)
