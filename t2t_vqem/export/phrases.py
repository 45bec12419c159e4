"""The phrases that each code of a latent model stands for in training text."""

from __future__ import annotations

import collections
import itertools
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from t2t_vqem.constants import EOS_ID, FILL_ID, INPUTS, TARGETS, TRAIN
from t2t_vqem.data.lines import one_line
from t2t_vqem.runtime import TextRuntime
from t2t_vqem.text_problem import TextDataset

_MOST_PAIRS = 10_000
_MOST_PHRASES = 10  # the largest number of phrases of a code
_logger = logging.getLogger(__name__)

Phrases = list[list[tuple[str, int]]]


class PhraseCounts(NamedTuple):
    """How often codes occurred, and what they stood for."""

    codes: np.ndarray  # int64 [K], latents of each code
    phrases: list[collections.Counter]  # of each code; a latent of EOS alone stands for no phrase


def training_pairs(dataset: TextDataset) -> list[tuple[str, str]]:
    """Returns at most `_MOST_PAIRS` pairs, spread evenly over the train split."""
    records = dataset.records(TRAIN)
    count = min(len(records), _MOST_PAIRS)
    decode = dataset.vocabulary.decode
    rows = records.read(np.arange(count) * len(records) // count)
    return [(decode(row[INPUTS]), decode(row[TARGETS])) for row in rows]


def count_phrases(model: TextRuntime, pairs: Iterable[tuple[str, str]]) -> PhraseCounts:
    """Counts the codes of the latents of translations, and the phrases that they stand for.

    Args:
        model: a latent model that scores, an export or a run.
        pairs: sources and translations.
    """
    codes = np.zeros(model.manifest.num_codes, np.int64)
    counts = [collections.Counter() for _ in codes]
    for found in model.score(pairs):
        np.add.at(codes, list(found.codes), 1)
        for latent, tokens in itertools.groupby(found.tokens, lambda token: token.latent):
            ids = [token.id for token in tokens if token.id not in (EOS_ID, FILL_ID)]
            if ids and 0 <= latent < len(found.codes):
                phrase = one_line(model.vocabulary.decode(ids)).strip()
                counts[found.codes[latent]][phrase] += 1
    used = sum(map(bool, counts))
    _logger.info("%d of %d codes stand for something", used, len(counts))
    return PhraseCounts(codes, counts)


def most_frequent(counts: Sequence[collections.Counter]) -> Phrases:
    """Returns the most frequent phrases of each code with their counts, in descending order."""
    # Phrases of equal frequency in alphabetical order, so that all machines give the same list.
    return [
        sorted(found.items(), key=lambda item: (-item[1], item[0]))[:_MOST_PHRASES]
        for found in counts
    ]
