"""Subword regularisation (Kudo, 2018): training sees other segmentations of the same text.

A segmentation is drawn among the n best ones of the unigram model, with probabilities proportional
to exp(alpha * log-probability). The draw depends only on the seed, the step and the number of the
example: it is the same on any number of workers, and after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t2t_vqem.constants import INPUTS, TARGETS, UsageError
from t2t_vqem.data.groups import GROUP_SIZES, grouped_lengths
from t2t_vqem.data.vocabulary import Vocabulary


class SubwordSampler:
    """Draws segmentations of the pairs of a batch.

    Args:
        vocabulary: the vocabulary of the pairs, of the type unigram.
        num_best: number of segmentations to draw from.
        alpha: exponent of the probabilities; 0: all are equally probable.
        seed: seed of the draws.
        group_size: number of tokens in a group of targets, see `groups`; 1: no groups.

    Raises:
        UsageError: the vocabulary is of another type.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, num_best: int, alpha: float, seed: int, group_size: int
    ):
        if vocabulary.kind != "unigram":
            raise UsageError(
                f"subword_nbest={num_best} needs a unigram vocabulary, got one of the type "
                f"{vocabulary.kind}. Set subword_nbest=1, or make data with another vocabulary."
            )
        self._vocabulary = vocabulary
        self._num_best, self._alpha, self._seed = num_best, alpha, seed
        self._group_size = group_size

    def __call__(
        self,
        records: Sequence[dict[str, np.ndarray] | None],
        indices: np.ndarray,
        step: int,
        length: int,
    ) -> list[dict[str, np.ndarray] | None]:
        """Returns the records of a batch with drawn segmentations.

        Args:
            records: the pairs, ids without EOS; None for an empty row.
            indices: number of the example of each row.
            step: number of the batch.
            length: number of positions of a row. Segmentations that do not fit are not drawn.
        """
        rows = [row for row, record in enumerate(records) if record is not None]
        rngs = [np.random.Generator(np.random.PCG64([self._seed, step, n])) for n in indices[rows]]
        drawn = [None if record is None else dict(record) for record in records]
        for side in (INPUTS, TARGETS):
            before = [records[row][side] for row in rows]
            for row, ids in zip(rows, self._draw(before, rngs, length, side), strict=True):
                drawn[row][side] = ids
        return drawn

    def _draw(
        self, sentences: list[np.ndarray], rngs: list[np.random.Generator], length: int, side: str
    ) -> list[np.ndarray]:
        """Returns a segmentation of each sentence, or the given one if that is truncated anyway."""
        drawn = list(sentences)
        fits = self._lengths(sentences, side) <= length
        orders = {n: self._order(sentences[n], rngs[n]) for n in np.flatnonzero(fits)}
        # The first segmentation that fits is a draw among those that fit. All sentences at once,
        # because one call for the lengths of many is as fast as for one.
        for rank in range(self._num_best):
            tried = {n: order[rank] for n, order in orders.items() if rank < len(order)}
            if not tried:
                break
            for (n, ids), size in zip(
                tried.items(), self._lengths(list(tried.values()), side), strict=True
            ):
                if size <= length:
                    drawn[n] = np.array(ids, sentences[n].dtype)
                    del orders[n]
        return drawn

    def _order(self, ids: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        """Returns the segmentations of the same text in the order of draws without replacement."""
        text = self._vocabulary.decode(ids)
        found = self._vocabulary.segmentations(text, self._num_best)
        # Gumbel noise makes the order one of draws without replacement (Vieira, 2014).
        keys = self._alpha * np.array([score for _, score in found]) + rng.gumbel(size=len(found))
        return [found[n][0] for n in np.argsort(-keys)]

    def _lengths(self, sentences: Sequence[Sequence[int] | np.ndarray], side: str) -> np.ndarray:
        """Returns the number of positions that each sentence needs, with EOS."""
        if side == INPUTS or self._group_size == 1:
            return np.array([len(ids) + 1 for ids in sentences])
        lengths = grouped_lengths(sentences, self._vocabulary.word_starts)
        return lengths[:, GROUP_SIZES.index(self._group_size)]
