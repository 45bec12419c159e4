"""Word alignments from attention weights.

Words are what is between white space. An alignment is written as in Pharaoh and Moses: "0-0 1-2",
source and target word, numbered from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t2t_vqem.constants import EOS_ID, PAD_ID
from t2t_vqem.data.vocabulary import Vocabulary

Alignment = tuple[tuple[int, int], ...]


def word_alignment(
    source: Sequence[int], target: Sequence[int], weights: np.ndarray, vocabulary: Vocabulary
) -> Alignment:
    """Aligns each word of a translation to the source word that its tokens attend to most.

    Args:
        source: ids [S].
        target: ids [T].
        weights: float [T, S], how much each target token attends to each source token.
        vocabulary: of both.

    Returns:
        (source word, target word) for each target word, in order.
    """
    sources, targets = (_words_of(ids, vocabulary) for ids in (source, target))
    shape = [max(words, default=-1) + 1 for words in (targets, sources)]
    if not all(shape):
        return ()
    sums = np.zeros(shape)
    for row, word in enumerate(targets):
        for column, source_word in enumerate(sources):
            if word >= 0 and source_word >= 0:
                sums[word, source_word] += weights[row, column]
    return tuple((int(best), word) for word, best in enumerate(sums.argmax(1)))


def _words_of(ids: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """Returns the word that each id before EOS belongs to; -1 for none, as spaces alone."""
    ids = [int(id_) for id_ in ids if id_ != PAD_ID]
    ids = ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids
    # Of the text so far, because pieces alone do not say where characters of several bytes end.
    words = [len(vocabulary.decode(ids[: end + 1]).split()) - 1 for end in range(len(ids))]
    is_space = [not vocabulary.piece(id_).strip("\u2581") for id_ in ids]
    return [-1 if space else word for word, space in zip(words, is_space, strict=True)]
