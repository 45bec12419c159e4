"""Divides tokens into groups of equal size without splitting words.

Each latent of the latent Transformer stands for one group of tokens. If groups are counted off from
the first token, then the start of a group depends on the number of pieces in all words before it,
and a group often contains only a part of a word. Here, a word that does not fit into the rest of a
group starts the next group, and FILL takes the positions left over. A word with more tokens than a
group also starts a group, and continues in the next one.

Shapes: n sentences, T tokens, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np

from t2t_vqem.constants import EOS_ID, FILL_ID, PAD_ID

# t2t-datagen stores the lengths for these group sizes, which belong to 1 to 4 downsampling layers.
GROUP_SIZES = (2, 4, 8, 16)


def group_words(
    sentences: Sequence[Sequence[int] | np.ndarray], word_starts: np.ndarray, size: int
) -> list[np.ndarray]:
    """Inserts FILL between words so that groups do not split them. EOS belongs to the last word.

    Args:
        sentences: ids without EOS.
        word_starts: bool [V], True for ids that begin a word.
        size: number of tokens in a group.

    Returns:
        For each sentence its ids with FILL and EOS, int32.
    """
    ids, counts = _matrix(sentences)
    places = _places(ids, counts, word_starts, size)
    lengths = _lengths(places, counts)
    laid_out = np.full([len(ids), max(lengths, default=0)], FILL_ID, np.int32)
    rows, columns = np.nonzero(np.arange(ids.shape[1]) < counts[:, None])
    laid_out[rows, places[rows, columns]] = ids[rows, columns]
    return [row[:length] for row, length in zip(laid_out, lengths, strict=True)]


def grouped_lengths(
    sentences: Sequence[Sequence[int] | np.ndarray], word_starts: np.ndarray
) -> np.ndarray:
    """Returns the length of each sentence after `group_words`: int32 [n, len(GROUP_SIZES)]."""
    ids, counts = _matrix(sentences)
    lengths = [_lengths(_places(ids, counts, word_starts, size), counts) for size in GROUP_SIZES]
    return np.stack(lengths, 1).astype(np.int32)


def padded(rows: Sequence[Sequence[int] | np.ndarray | None], length: int) -> np.ndarray:
    """Returns ids int32 [rows, length]: each row with EOS, cut or padded to `length`.

    A row that is None becomes PAD.
    """
    ids = np.full((len(rows), length), PAD_ID, np.int32)
    for row, given in zip(ids, rows, strict=True):
        if given is not None:
            kept = given[: length - 1]
            row[: len(kept)] = kept
            row[len(kept)] = EOS_ID
    return ids


def _matrix(sentences: Sequence[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids with EOS, int32 [n, T], and the number of ids in each row, int64 [n]."""
    counts = np.array([len(sentence) + 1 for sentence in sentences], np.int64)
    return padded(sentences, counts.max(initial=1)), counts


def _places(ids: np.ndarray, counts: np.ndarray, word_starts: np.ndarray, size: int) -> np.ndarray:
    """Returns the position of each token after grouping, int64 [n, T]; arbitrary at padding."""
    num_tokens = ids.shape[1]
    starts = word_starts[ids]
    starts[:, 0] = True
    starts &= np.arange(num_tokens) < counts[:, None]
    # The start of the next word, computed from right to left.
    nexts = np.where(starts, np.arange(num_tokens), counts[:, None])
    nexts = np.minimum.accumulate(nexts[:, ::-1], 1)[:, ::-1]
    nexts = np.concatenate([nexts[:, 1:], counts[:, None]], 1)
    sizes = nexts - np.arange(num_tokens)
    places = np.zeros(ids.shape, np.int64)
    place = np.zeros(len(ids), np.int64)
    for token in range(num_tokens):
        rest = -place % size
        place += np.where(starts[:, token] & (sizes[:, token] > rest), rest, 0)
        places[:, token] = place
        place += 1
    return places


def _lengths(places: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.take_along_axis(places, counts[:, None] - 1, 1)[:, 0] + 1
